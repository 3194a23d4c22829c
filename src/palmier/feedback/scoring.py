"""Files of answers, scored and sorted by preference: a filter between sampling and training."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmier.data.jsonl import read_lines
from palmier.errors import Refusal
from palmier.feedback.reward import Reward
from palmier.records import Answer, Conversation

LINES_AT_ONCE = 32
"""Lines scored together, so that answers of like length can share a batch."""

_OF_ANSWER = ("version", "tokens", "logprobs", "finish", "sampling")


@dataclass(frozen=True)
class Answered:
    """One line: a conversation, its answers as they stood in the file, and their ranks where there are any."""

    conversation: Conversation
    answers: tuple[dict[str, Any], ...]
    ranks: tuple[int, ...] = ()


def read_answered(path: Path) -> list[Answered]:
    """Read lines of ``{"messages", "answers": [text or {"text", …}, …]}`` or of rankings.

    Raises Refusal naming file and line where one is wrong, and where the file holds none.
    """
    lines = []
    for where, value in read_lines(path):
        try:
            lines.append(_answered(value))
        except Refusal as refusal:
            raise Refusal(f"{where}: {refusal}") from None
    if not lines:
        raise Refusal(f'{path} is empty: expected lines of {{"messages", "answers": [text, …]}} or rankings')
    return lines


@dataclass
class Agreed:
    """How many of people's comparisons the reward ordered as they did; equal scores are half."""

    right: float = 0.0
    pairs: int = 0


def score_lines(
    reward: Reward, lines: Sequence[Answered], *, sort: bool, best: int = 0, agreed: Agreed | None = None
) -> Iterator[dict[str, Any]]:
    """Each line with ``score`` in each of its answers, best first where ``sort``, the ``best`` of them (0 = all).

    Where lines are rankings each answer also has its ``rank``, and ``agreed`` is counted up.
    """
    if best < 0:
        raise Refusal(f"best {best} is negative: 0 keeps all answers")
    for start in range(0, len(lines), LINES_AT_ONCE):
        some = lines[start : start + LINES_AT_ONCE]
        asked = [line.conversation for line in some for _ in line.answers]
        scores = iter(reward.score(asked, [_answer(answer) for line in some for answer in line.answers]))
        for line in some:
            found = [answer | {"score": next(scores)} for answer in line.answers]
            if line.ranks:
                found = [answer | {"rank": rank} for answer, rank in zip(found, line.ranks, strict=True)]
                _count(found, agreed or Agreed())
            if sort or best:
                found.sort(key=lambda answer: -answer["score"])
            yield {"messages": line.conversation.to_json(), "answers": found[: best or None]}


def _count(answers: Sequence[dict[str, Any]], agreed: Agreed) -> None:
    for better in answers:
        for worse in answers:
            if better["rank"] < worse["rank"]:
                margin = better["score"] - worse["score"]
                agreed.right += 0.5 + 0.5 * ((margin > 0) - (margin < 0))
                agreed.pairs += 1


def _answered(value: dict[str, Any]) -> Answered:
    messages = value.get("messages", value.get("conversation"))
    answers = value.get("answers")
    if messages is None or not isinstance(answers, list) or not answers:
        raise Refusal('expected {"messages": […], "answers": [text, …]} or a ranking')
    objects = [{"text": answer} if isinstance(answer, str) else answer for answer in answers]
    for answer in objects:
        if not isinstance(answer, dict) or not isinstance(answer.get("text"), str):
            raise Refusal('an answer is a text, or an object with a "text"')
        _answer(answer)
    ranks = value.get("ranks", [])
    if not isinstance(ranks, list) or not all(isinstance(rank, int) for rank in ranks):
        raise Refusal('"ranks" is a list of whole numbers')
    if ranks and len(ranks) != len(objects):
        raise Refusal(f"{len(objects)} answers have {len(ranks)} ranks")
    return Answered(Conversation.from_json(messages), tuple(objects), tuple(ranks))


def _answer(value: dict[str, Any]) -> Answer:
    try:
        return Answer.from_json({"text": value["text"]} | {k: value[k] for k in _OF_ANSWER if k in value})
    except TypeError as error:
        raise Refusal(f"an answer has a value of the wrong form: {error}") from None
