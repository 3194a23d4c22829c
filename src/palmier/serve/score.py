"""Scores of answers by a reward model of the home: what `palmier reward score` says, over HTTP."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from palmier.errors import Refusal
from palmier.feedback.reward import ModelReward
from palmier.generate.requests import QueueFull
from palmier.models.names import inside
from palmier.records import Answer, Conversation, Message
from palmier.scale.runtime import release_workers
from palmier.serve.serving import Missing
from palmier.workspace import Workspace

router = APIRouter(prefix="/v1")

MOST_ANSWERS = 64
MOST_WAITING = 16
"""Requests that may wait while another one is scored."""


class Said(BaseModel):
    model_config = ConfigDict(extra="forbid")
    role: Literal["system", "user", "assistant"]
    content: str


class ScoreWish(BaseModel):
    """The body: the ``answers`` are alternatives, each to the whole conversation."""

    model_config = ConfigDict(extra="forbid")
    model: Annotated[str, Field(min_length=1, max_length=200)]
    messages: Annotated[list[Said], Field(min_length=1)]
    answers: Annotated[list[str], Field(min_length=1, max_length=MOST_ANSWERS)]


class Scorer:
    """The reward model that was asked for last, kept in memory; used from the event loop, computes beside it."""

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._turn = asyncio.Lock()
        self._waiting = 0
        self._kept: tuple[tuple[Path, int], ModelReward] | None = None

    async def score(self, name: str, conversation: Conversation, answers: list[str]) -> list[float]:
        """One number an answer. Raises Missing for what is no reward model of the home, QueueFull, Refusal."""
        if self._waiting >= MOST_WAITING:
            raise QueueFull(f"{MOST_WAITING} requests wait to be scored already: ask again later")
        self._waiting += 1
        try:
            async with self._turn:
                return await asyncio.to_thread(self._score, name, conversation, answers)
        finally:
            self._waiting -= 1

    def _score(self, name: str, conversation: Conversation, answers: list[str]) -> list[float]:
        try:
            reward = self._reward(name)
            return reward.score([conversation] * len(answers), [Answer(text) for text in answers])
        finally:
            release_workers()  # they would slow the engine's

    def _reward(self, name: str) -> ModelReward:
        folder = inside(name, self._workspace)
        if folder is None:
            sentence = f"there is no reward model {name!r} in this home: train one into its folder models"
            raise Missing(sentence, "model", "model_not_found")
        # One that was trained anew under its name is read again.
        state = (folder, max((path.stat().st_mtime_ns for path in folder.glob("*.safetensors")), default=0))
        if self._kept is None or self._kept[0] != state:
            self._kept = None  # first, so that two are never in memory
            try:
                self._kept = (state, ModelReward.load(folder))
            except Refusal as refusal:
                # Where the home lies is nobody's business who asks over a network.
                raise Refusal(str(refusal).replace(str(folder), name)) from None
        return self._kept[1]


def _scorer(request: Request) -> Scorer:
    scorer: Scorer = request.app.state.scorer
    return scorer


@router.post("/score")
async def score(scorer: Annotated[Scorer, Depends(_scorer)], body: ScoreWish) -> dict[str, Any]:
    """How much better each answer is, in nats of preference: σ(difference) is the chance that one is preferred."""
    conversation = Conversation(tuple(Message(one.role, one.content) for one in body.messages))
    scores = await scorer.score(body.model, conversation, body.answers)
    return {"object": "list", "model": body.model, "scores": scores}
