"""Conversations and rankings as JSONL files: read with errors that name the line, written whole."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from palmier.data.jsonl import read_lines
from palmier.data.tokenizer import whole_characters
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Ranking
from palmier.workspace import write_file_whole

Record = TypeVar("Record")


def read_conversations(path: Path) -> list[Conversation]:
    """Read lines of ``{"messages": [{"role", "content"}, …]}``; other keys of a line are ignored.

    Raises Refusal naming file and line where one is wrong, and where the file holds none.
    """
    return _read(path, _conversation, 'lines of {"messages": [{"role", "content"}, …]}')


def read_rankings(path: Path) -> list[Ranking]:
    """Read lines as ``Ranking.to_json`` gives them.

    Raises Refusal naming file and line where one is wrong, and where the file holds none.
    """
    return _read(path, Ranking.from_json, "rankings, as `palmier feedback export` writes them")


def write_jsonl(path: Path, values: Iterable[Conversation | Ranking | Answer | dict[str, Any]]) -> int:
    """Replace ``path`` by one line a value, durably; a conversation becomes ``{"messages": […]}``.

    Returns the number of lines. One value at a time is in memory.
    """
    count = 0
    with write_file_whole(path) as partial, partial.open("w", encoding="utf-8") as handle:
        for value in values:
            if isinstance(value, Conversation):
                plain: dict[str, Any] = {"messages": value.to_json()}
            else:
                plain = value if isinstance(value, dict) else value.to_json()
            line = json.dumps(plain, ensure_ascii=False)
            # A lone surrogate cannot be written as UTF-8, but as an escape.
            handle.write((line if whole_characters(line) == line else json.dumps(plain)) + "\n")
            count += 1
    return count


def _conversation(value: dict[str, Any]) -> Conversation:
    if "messages" not in value:
        raise Refusal('no key "messages"')
    return Conversation.from_json(value["messages"])


def _read(path: Path, parse: Callable[[dict[str, Any]], Record], expected: str) -> list[Record]:
    records = []
    for where, value in read_lines(Path(path)):
        try:
            records.append(parse(value))
        except Refusal as refusal:
            raise Refusal(f"{where}: {refusal}") from None
        except (TypeError, ValueError, AttributeError) as error:  # a value of the wrong JSON type, deep inside
            raise Refusal(f"{where}: a value has the wrong form ({error}); expected {expected}") from None
    if not records:
        raise Refusal(f"{path} is empty: expected {expected}")
    return records
