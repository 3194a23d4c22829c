"""Compare in the chat by HTTP: 2 … 4 answers of one or two versions side by side, their names hidden until one is chosen."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from fastapi import APIRouter
from pydantic import BaseModel, ConfigDict, Field
from starlette.concurrency import run_in_threadpool

from palmier.errors import Refusal
from palmier.feedback.store import Spot
from palmier.records import Ranking, Sampling
from palmier.serve.answers import AnswerWish, asked_message
from palmier.serve.chat import CHAT_TOKENS
from palmier.serve.conversations import Annotator, find_tree
from palmier.serve.feedback import Reason, fate_of
from palmier.serve.ranking import RANK_TEMPERATURE, check_ready, find_draw, shown_draw
from palmier.serve.serving import Given, Number, check_version

router = APIRouter(prefix="/api")

STRENGTHS = {None: 0, "slight": 1, "clear": 2, "strong": 3}

USUAL = {"temperature": RANK_TEMPERATURE, "top_p": 1.0, "max_tokens": CHAT_TOKENS}
"""Answers to be compared are drawn warmer than others, and uncut, so that they differ."""


class CompareWish(AnswerWish):
    """What is compared: ``n`` answers of ``model``, or half of them of ``against``."""

    annotator: Annotator = ""
    n: Annotated[int, Field(ge=2, le=4)] = 2
    against: str | None = None
    wait: bool = True

    def sampling(self, settings: dict[str, Any]) -> Sampling:
        return super().sampling(USUAL | settings)


class Choice(BaseModel):
    """Which answer is best (``pick``: its index in the draw's own order), or that they are tied or all bad."""

    model_config = ConfigDict(extra="forbid")
    annotator: Annotator = ""
    outcome: Literal["pick", "tie", "all_bad"] = "pick"
    pick: Annotated[int, Field(ge=0, le=3)] | None = None
    strength: Literal["slight", "clear", "strong"] | None = None
    reason: Reason = ""
    milliseconds: Annotated[int, Field(ge=0, lt=1 << 40)] = 0

    def check(self, count: int) -> None:
        """Raise Refusal where the fields do not go together, or the pick is none of ``count`` answers."""
        if (self.outcome == "pick") != (self.pick is not None):
            raise Refusal("outcome pick needs pick, the index of the best answer; tie and all_bad go without it")
        if self.pick is not None and self.pick >= count:
            raise Refusal(f"pick {self.pick} is none of the {count} answers: the first one is 0")
        if self.strength is not None and self.pick is None:
            raise Refusal("strength says how much better the picked answer is: leave it out where none is picked")


@router.post("/conversations/{number}/comparisons", status_code=201)
async def compare(serving: Given, number: Number, body: CompareWish) -> dict[str, Any]:
    """Draw answers to a message; returned when all have ended, or at once where ``wait`` is false.

    A draw that is being written is watched as those of /rank are, at /api/rank/draws/ID/events.
    """
    if body.going_on is not None or body.own_thread or body.system is not None:
        raise Refusal(
            "answers are compared from their beginning, after one conversation: no continue, own_thread, system"
        )
    tree = await run_in_threadpool(find_tree, serving, number)
    version, other = check_version(serving, body.model), None
    if body.against is not None:
        other = check_version(serving, body.against) or serving.live.state.current
        if other == (version or serving.live.state.current):
            raise Refusal(f"version {other} would be compared with itself: leave against out, or name another one")
    asked = asked_message(tree, body.to)
    drawn = await serving.draws.begin(
        body.annotator,
        tree.thread(asked.id),
        body.sampling(tree.settings),
        body.n,
        version,
        other=other,
        chat=number,
        message=asked.id,
    )
    if body.wait:
        drawn = await serving.draws.finished(drawn.id)
    return shown_draw(drawn)


@router.post("/comparisons/{name}", status_code=201)
async def choose(serving: Given, name: str, body: Choice) -> dict[str, Any]:
    """Store a choice. When this answers it is on the disk; the same choice sent again counts once.

    All answers join the conversation as alternatives, and it goes on from the best one. Only now
    ``versions`` tells whose each answer was.
    """
    drawn = find_draw(serving, name)
    if not drawn.chat:
        raise Refusal("this draw is /rank's: order its answers there")
    check_ready(drawn, body.annotator)
    body.check(len(drawn.answers))
    best = None if body.pick is None else drawn.answers[body.pick].text
    # Answers that are word for word the picked one are as good as it.
    ranks = tuple(1 if best in (None, answer.text) else 2 for answer in drawn.answers)
    ranking = Ranking(
        conversation=drawn.conversation,
        answers=drawn.answers,
        ranks=ranks,
        all_bad=body.outcome == "all_bad",
        shown=drawn.shown,
        annotator=body.annotator,
        milliseconds=body.milliseconds,
        strength=STRENGTHS[body.strength],
        reason=body.reason,
    )
    spot = Spot(drawn.chat, drawn.message, drawn.shown[0] if body.pick is None else body.pick)
    number = await run_in_threadpool(serving.store.add_ranking, ranking, drawn.key, spot)
    serving.draws.ranked(drawn, ranks, ranking.all_bad, number)
    fate = await fate_of(serving, body.annotator, "ranking", number)
    return {"id": number, "versions": [answer.version for answer in drawn.answers], "fate": fate}
