"""A file of prompts and the file of their answers, which is written whole and can be resumed.

While answers are drawn they are kept beside OUT in OUT.partial: a line of settings, then a line for
each prompt that is answered. The same command takes up what is there; under other settings it is
refused, because half of the answers would be of another kind.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmier.data.jsonl import read_lines
from palmier.data.prompts import write_jsonl
from palmier.errors import Refusal
from palmier.records import Answer, Conversation


@dataclass(frozen=True)
class Line:
    """One prompt: where it stands, what is asked, and the line as it was."""

    where: str
    conversation: Conversation
    value: dict[str, Any]

    @property
    def digest(self) -> str:
        """Equal for equal lines: a line that was edited is answered anew."""
        return hashlib.sha256(json.dumps(self.value, sort_keys=True).encode()).hexdigest()[:16]

    def answered(self, answers: list[Answer]) -> dict[str, Any]:
        """The line with its answers, as `palmier reward score` reads it; other keys stay as they were."""
        kept = {key: value for key, value in self.value.items() if key != "prompt"}
        return kept | {"messages": self.conversation.to_json(), "answers": [_plain(answer) for answer in answers]}


def read_prompts(path: Path) -> list[Line]:
    """Read lines of ``{"prompt": text}`` or ``{"messages": […]}``.

    Raises Refusal naming file and line where one is wrong, and where the file holds none.
    """
    lines = []
    for where, value in read_lines(path):
        try:
            lines.append(Line(where, _conversation(value), value))
        except Refusal as refusal:
            raise Refusal(f"{where}: {refusal}") from None
    if not lines:
        raise Refusal(f'{path} is empty: expected lines of {{"prompt": "…"}} or {{"messages": […]}}')
    return lines


class Answers:
    """The answers to a file's lines: kept as they come, written whole at the end.

    ``settings`` decide what is drawn; a ``seed`` of None takes an earlier try's, else ``fresh``.
    """

    def __init__(self, out: Path | None, lines: list[Line], settings: Mapping[str, Any], fresh: int) -> None:
        self.out = out
        self.lines = lines
        self.done: dict[int, dict[str, Any]] = {}
        self.settings = json.loads(json.dumps(settings))  # as they come back from a file: a tuple is a list
        self._shown = 0
        self._partial = None if out is None else out.with_name(f"{out.name}.partial")
        if self._partial is None:
            self.settings["seed"] = fresh if self.settings["seed"] is None else self.settings["seed"]
            return
        self._file = self._partial.open("a+", encoding="utf-8")
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise Refusal(f"{self._partial} is being written by another process: wait for it") from None
        self._file.seek(0)
        self._take_up(self._file.read(), fresh)

    @property
    def seed(self) -> int:
        return int(self.settings["seed"])

    def add(self, index: int, answers: list[Answer]) -> None:
        """Keep one line's answers; without an ``out`` print what is complete, in the file's order."""
        self.done[index] = self.lines[index].answered(answers)
        if self._partial is None:
            while self._shown in self.done:
                print(json.dumps(self.done[self._shown], ensure_ascii=False), flush=True)
                self._shown += 1
            return
        self._keep({"index": index, "of": self.lines[index].digest, "line": self.done[index]})

    def finish(self) -> None:
        """Write the file, whole, and drop the partial one."""
        if self._partial is None or self.out is None:
            return
        write_jsonl(self.out, [self.done[index] for index in range(len(self.lines))])
        self._partial.unlink()
        self._file.close()

    def say_what_is_kept(self) -> None:
        if self._partial is not None:
            kept = f"{len(self.done)} of {len(self.lines)} lines are kept in {self._partial}"
            print(f"Stopped: {kept}; the same command goes on from there", file=sys.stderr)

    def _keep(self, value: dict[str, Any]) -> None:
        self._file.write(json.dumps(value) + "\n")
        self._file.flush()

    def _take_up(self, text: str, fresh: int) -> None:
        """Read what an earlier try kept. A line without its end was being written when the try was killed."""
        whole = text[: text.rfind("\n") + 1]
        try:
            kept = [json.loads(line) for line in whole.splitlines()]
            before: dict[str, Any] = kept[0]["settings"] if kept else {}
            for one in kept[1:]:
                index = one["index"]
                if index < len(self.lines) and one["of"] == self.lines[index].digest:
                    self.done[index] = one["line"]
        except (ValueError, KeyError, TypeError):
            raise Refusal(f"{self._partial} is damaged: remove it to begin anew") from None
        for name, value in self.settings.items():
            if before and value != before.get(name) and not (name == "seed" and value is None):
                raise Refusal(
                    f"{self._partial} was begun with {name} {before.get(name)}, not {value}: give the same, or remove "
                    "it to begin anew"
                )
        if self.settings["seed"] is None:
            self.settings["seed"] = before.get("seed", fresh)
        os.truncate(self._file.fileno(), len(whole.encode()))
        if not before:
            self._keep({"settings": self.settings})


def _conversation(value: dict[str, Any]) -> Conversation:
    if "answers" in value:
        raise Refusal("the line has answers already")
    if ("prompt" in value) == ("messages" in value):
        raise Refusal('expected {"prompt": "…"} or {"messages": […]}')
    if "messages" in value:
        return Conversation.from_json(value["messages"])
    if not isinstance(value["prompt"], str) or not value["prompt"].strip():
        raise Refusal("the prompt must be a text that is not empty")
    return Conversation.ask(value["prompt"])


def _plain(answer: Answer) -> dict[str, Any]:
    """An answer without its ids and log-probs, which are longer than the text."""
    return {key: value for key, value in answer.to_json().items() if key not in ("tokens", "logprobs")}
