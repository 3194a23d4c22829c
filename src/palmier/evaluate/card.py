"""The comparison that stands on a candidate's card, and the rule by which it is promoted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from palmier.evaluate.winrate import Interval
from palmier.records import Answer

CHANCE = 0.5

MOST_FALL_OF_ENDED = 0.10
"""By how much the share of answers that come to an end may fall."""

MOST_LOSS = 0.5
"""Nats a token by which the old version's answers may become less likely: e^0.5 = 1.65 times the perplexity.

A version that still speaks as before stays far below (a DPO of 1.4 nats an answer of 40 tokens
loses 0.04); one that repeats itself or forgot the language loses several nats.
"""


@dataclass(frozen=True)
class Evidence:
    """What a comparison of a new version with an old one found.

    ``judge``: share of people's comparisons that the judge orders as they did, on rankings
    that it never saw. ``win_rate`` of the new version by that judge on prompts that the policy
    never saw, and ``equal_length``, the same at equal length. ``ended_*``: share of answers that
    are not empty and came to an end. ``loss_*``: mean −ln p a token of the old version's own
    answers under either version.
    """

    judge: Interval
    win_rate: Interval
    equal_length: Interval
    ended_old: float
    ended_new: float
    loss_old: float
    loss_new: float

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Verdict:
    """Whether to promote, and why in one sentence."""

    promote: bool
    sentence: str


def ended(answers: Sequence[Sequence[Answer]]) -> float:
    """The share of answers that hold text and stopped by themselves."""
    flat = [answer for some in answers for answer in some]
    return sum(answer.finish == "stop" and bool(answer.text.strip()) for answer in flat) / len(flat)


def decide(evidence: Evidence) -> Verdict:
    """Promote only what is shown to be better: a judge that may be believed, then fluency, then the win rate.

    The sentence names the first of them that is not given.
    """
    judge, wins = evidence.judge, evidence.win_rate
    if not judge.low > CHANCE:
        return Verdict(
            False,
            f"not promoted: the judge orders {judge.mean:.0%} of rankings that it has not seen as people did "
            f"({judge.low:.0%} … {judge.high:.0%}), which is not shown to be better than chance, so there is nothing to "
            "decide by: rank more answers, or more consistently",
        )
    if evidence.ended_new < evidence.ended_old - MOST_FALL_OF_ENDED:
        return Verdict(
            False,
            f"not promoted: {evidence.ended_new:.0%} of its answers come to an end, {evidence.ended_old:.0%} of the "
            "old version's did",
        )
    lost = evidence.loss_new - evidence.loss_old
    if not lost <= MOST_LOSS:
        return Verdict(
            False,
            f"not promoted: the old version's answers became {lost:.2f} nats a token less likely "
            f"(at most {MOST_LOSS}), so its language has drifted too far",
        )
    if not wins.low > CHANCE:
        return Verdict(
            False,
            f"not promoted: it wins {wins.mean:.0%} against the old version, and the interval "
            f"{wins.low:.0%} … {wins.high:.0%} does not lie above {CHANCE:.0%}"
            + (": more rankings make it narrower" if wins.mean > CHANCE else ""),
        )
    return Verdict(
        True,
        f"promoted: it wins {wins.mean:.0%} against the old version ({wins.low:.0%} … {wins.high:.0%}, {wins.n} prompts "
        f"that it never saw; {evidence.equal_length.mean:.0%} at equal length), by a judge that orders {judge.mean:.0%} of "
        "unseen rankings as people did",
    )
