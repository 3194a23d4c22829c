"""Answers that were drawn to be ranked: kept on the disk until somebody has ordered them.

So a page that is loaded again, or a server that was killed, goes on where the person was. A
draw that was ranked stays for a while: undo brings it back with its order.
"""

from __future__ import annotations

import asyncio
import random
import time
import uuid
from collections.abc import AsyncGenerator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Sampling
from palmier.serve.answerer import Answerer, Reply
from palmier.serve.chat import drain
from palmier.serve.context import Opening
from palmier.serve.live import Stopped
from palmier.workspace import clear_leftovers, read_json, write_json

MOST_PENDING = 32
MOST_RANKED = 10
"""Draws kept for one person: those that wait to be ranked, and those that undo can bring back."""

SNAPSHOT_SECONDS = 0.15
"""How often a page that watches is told what has been written so far."""


@dataclass(frozen=True)
class Draw:
    """K answers to one conversation. ``shown[j]`` is the index of the answer at place j on the screen.

    ``ranks``, ``all_bad`` and ``ranking`` (the number in the store) belong to the state "ranked";
    after an undo they tell the order to begin with. ``revision`` counts the undos. ``chat`` and ``message``
    tell which message of which stored conversation is answered, 0 where /rank asked.
    """

    id: str
    annotator: str
    conversation: Conversation
    version: str
    shown: tuple[int, ...]
    created: float
    state: Literal["drawing", "ready", "ranked"] = "drawing"
    answers: tuple[Answer, ...] = ()
    problem: str = ""
    revision: int = 0
    ranks: tuple[int, ...] = ()
    all_bad: bool = False
    ranking: int = 0
    chat: int = 0
    message: int = 0

    @property
    def key(self) -> str:
        """What makes the confirmation of this draw count once, however often it is sent."""
        return f"{self.id}-{self.revision}"

    def to_json(self) -> dict[str, Any]:
        return vars(self) | {
            "conversation": self.conversation.to_json(),
            "answers": [answer.to_json() for answer in self.answers],
            "shown": list(self.shown),
            "ranks": list(self.ranks),
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Draw:
        fields = dict(value)
        fields["conversation"] = Conversation.from_json(value["conversation"])
        fields["answers"] = tuple(Answer.from_json(answer) for answer in value["answers"])
        return cls(**fields | {"shown": tuple(value["shown"]), "ranks": tuple(value["ranks"])})


class Draws:
    """The draws of one home. Used from the event loop alone."""

    def __init__(self, folder: Path, live: Answerer) -> None:
        self._folder = folder
        self._live = live
        self._turns: dict[str, list[Reply]] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._failures: dict[str, Refusal] = {}
        folder.mkdir(parents=True, exist_ok=True)
        clear_leftovers(folder)
        stored = [_read(path) for path in folder.glob("[!.]*.json")]
        self._draws = {draw.id: draw for draw in sorted(stored, key=lambda draw: draw.created)}

    async def begin(
        self,
        annotator: str,
        conversation: Conversation,
        sampling: Sampling,
        n: int,
        version: str | None,
        *,
        other: str | None = None,
        chat: int = 0,
        message: int = 0,
    ) -> Draw:
        """Begin to draw ``n`` answers; they go on being written whoever watches. Raises what `Answerer.answer` raises.

        Where an ``other`` version is named, it draws half of them. In a ``chat`` the oldest turns are
        left out where the context is full.
        """
        half = 0 if other is None else n // 2
        opening = Opening(fit=chat > 0)
        turns = [await self._live.answer(conversation, sampling, n=n - half, version=version, opening=opening)]
        if half:
            try:
                turns.append(await self._live.answer(conversation, sampling, n=half, version=other, opening=opening))
            except BaseException:
                turns[0].cancel()
                raise
        shown = tuple(random.SystemRandom().sample(range(n), n))
        read, version = turns[0].conversation, turns[0].version
        draw = Draw(uuid.uuid4().hex, annotator, read, version, shown, time.time(), chat=chat, message=message)
        self._draws[draw.id] = draw
        self._turns[draw.id] = turns
        self._tasks[draw.id] = asyncio.create_task(self._write(draw, turns))
        self._prune(annotator)
        return self.get(draw.id)

    def get(self, name: str) -> Draw:
        """A draw with what has been written so far. Raises Refusal where there is none."""
        draw = self._draws.get(name)
        if draw is None:
            raise Refusal(f"there is no draw {name!r}: it was skipped, or is too old; draw again")
        turns = self._turns.get(name) if draw.state == "drawing" else None
        return draw if turns is None else replace(draw, answers=_said(turns))

    def pending(self, annotator: str, chat: int = 0) -> Draw | None:
        """The newest draw that a person has not ranked, of /rank or of a conversation; one that failed is not waited for."""
        own = [draw for draw in self._draws.values() if (draw.annotator, draw.chat) == (annotator, chat)]
        waiting = [draw for draw in own if draw.state != "ranked" and not draw.problem]
        return self.get(waiting[-1].id) if waiting else None

    async def finished(self, name: str) -> Draw:
        """Wait until every answer has ended. Raises Refusal where it could not be drawn."""
        task = self._tasks.get(name)
        if task is not None:
            await asyncio.wait({task})
        draw = self.get(name)
        if draw.problem:
            raise self._failures.get(name) or Refusal(draw.problem)
        return draw

    async def watch(self, name: str) -> AsyncGenerator[Draw, None]:
        """The draw now, after every change, and at its end."""
        last: Draw | None = None
        while True:
            draw = self.get(name)
            if draw != last:
                yield draw
                last = draw
            if draw.state != "drawing":
                return
            await asyncio.wait({self._tasks[name]}, timeout=SNAPSHOT_SECONDS)

    def ranked(self, draw: Draw, ranks: tuple[int, ...], all_bad: bool, ranking: int) -> None:
        """Note that a draw was ranked, and as which number of the store."""
        self._keep(replace(draw, state="ranked", ranks=ranks, all_bad=all_bad, ranking=ranking))
        self._prune(draw.annotator)

    def reopen(self, ranking: int) -> Draw | None:
        """Bring back /rank's draw of a ranking that was withdrawn; None where it is not kept any more, or was a chat's."""
        done = [
            draw for draw in self._draws.values() if (draw.state, draw.ranking, draw.chat) == ("ranked", ranking, 0)
        ]
        if not done:
            return None
        again = replace(done[-1], state="ready", revision=done[-1].revision + 1, created=time.time())
        self._keep(again)
        return again

    def drop(self, name: str) -> None:
        """Throw a draw away; what is still being written is given up."""
        self.get(name)
        self._forget(name)

    def drop_chat(self, chat: int) -> None:
        """Throw away every draw of a conversation that is removed."""
        for draw in [draw for draw in self._draws.values() if draw.chat == chat]:
            self._forget(draw.id)

    async def close(self) -> None:
        """Give up what is being written."""
        for turn in [turn for turns in self._turns.values() for turn in turns]:
            turn.cancel()
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=5)

    async def _write(self, draw: Draw, turns: list[Reply]) -> None:
        try:
            await asyncio.gather(*(drain(turn.pieces()) for turn in turns))
            done = replace(draw, state="ready", answers=_said(turns))
            if any(answer.finish == "cancelled" for answer in done.answers):
                raise Refusal("the drawing was stopped: draw again")
            await asyncio.to_thread(write_json, self._path(draw.id), done.to_json())
        except (Refusal, Stopped) as error:
            for turn in turns:
                turn.cancel()
            done = replace(draw, state="ready", answers=_said(turns), problem=str(error))
            if isinstance(error, Refusal):
                self._failures[draw.id] = error
        if draw.id in self._draws:
            self._draws[draw.id] = done
        else:  # skipped meanwhile
            self._path(draw.id).unlink(missing_ok=True)
            self._failures.pop(draw.id, None)
        del self._turns[draw.id], self._tasks[draw.id]

    def _keep(self, draw: Draw) -> None:
        write_json(self._path(draw.id), draw.to_json())
        self._draws.pop(draw.id, None)
        self._draws[draw.id] = draw

    def _prune(self, annotator: str) -> None:
        own = [draw for draw in self._draws.values() if draw.annotator == annotator]
        waiting = [draw for draw in own if draw.state != "ranked"]
        ranked = [draw for draw in own if draw.state == "ranked"]
        for draw in waiting[:-MOST_PENDING] + ranked[:-MOST_RANKED]:
            self._forget(draw.id)

    def _forget(self, name: str) -> None:
        del self._draws[name]
        self._failures.pop(name, None)
        for turn in self._turns.get(name, []):
            turn.cancel()
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._folder / f"{name}.json"


def _said(turns: list[Reply]) -> tuple[Answer, ...]:
    return tuple(answer for turn in turns for answer in turn.answers())


def _read(path: Path) -> Draw:
    try:
        return Draw.from_json(read_json(path))
    except (KeyError, TypeError, AttributeError) as error:
        raise Refusal(f"{path} is no draw ({error}): remove it, only answers that nobody has ranked are lost") from None
