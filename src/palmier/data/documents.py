"""Reads text out of files: plain text, Markdown, and JSONL with a key "text"."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from palmier.data.jsonl import read_lines
from palmier.errors import Refusal
from palmier.records import Document

TEXT = (".txt", ".md", ".markdown")
LINES = (".jsonl",)
PART = 65_536
"""Characters after which a text file is continued as a further document."""


def find_files(paths: Iterable[Path]) -> list[Path]:
    """Readable files under ``paths``, folders recursively, sorted; raises Refusal where there are none."""
    paths = [Path(path) for path in paths]
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            inside = [
                item for item in sorted(path.rglob("*")) if item.is_file() and item.suffix.lower() in TEXT + LINES
            ]
            if not inside:
                raise Refusal(f"No text in {path}: Palmier reads {', '.join(TEXT + LINES)}")
            found += inside
        elif not path.is_file():
            raise Refusal(f"{path} does not exist")
        elif path.suffix.lower() not in TEXT + LINES:
            raise Refusal(f"{path} is no text: Palmier reads {', '.join(TEXT + LINES)}")
        else:
            found.append(path)
    if not found:
        raise Refusal("no files given")
    return found


def read_documents(paths: Iterable[Path], on_bytes: Callable[[int], None] | None = None) -> Iterator[Document]:
    """Yield the documents of files and folders, one at a time; blank ones are left out.

    ``on_bytes`` is told how many bytes were read. Raises Refusal naming file and line.
    """
    files = find_files(paths)
    empty = True
    for path in files:
        documents = _json_lines(path, on_bytes) if path.suffix.lower() in LINES else _text(path, on_bytes)
        for document in documents:
            if document.text.strip():
                empty = False
                yield document
    if empty:
        raise Refusal(
            f"No text in {', '.join(map(str, files[:3]))}{' …' if len(files) > 3 else ''}: every document is empty"
        )


def _json_lines(path: Path, on_bytes: Callable[[int], None] | None) -> Iterator[Document]:
    for where, value in read_lines(path, on_bytes):
        text = value.get("text")
        if not isinstance(text, str):
            raise Refusal(f'{where}: no key "text" with a string: each line must be {{"text": "…"}}')
        yield Document(text, where)


def _text(path: Path, on_bytes: Callable[[int], None] | None) -> Iterator[Document]:
    """Parts of a text file, cut at the first blank line after ``PART`` characters."""
    lines: list[str] = []
    size, first = 0, 1
    with path.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            if on_bytes is not None:
                on_bytes(len(raw))
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise Refusal(
                    f"{path}:{number}: byte {error.start + 1} of the line is not UTF-8: save the file as UTF-8"
                ) from None
            lines.append(line)
            size += len(line)
            if size >= PART and not line.strip():
                yield Document("".join(lines), f"{path}:{first}")
                lines, size, first = [], 0, number + 1
    yield Document("".join(lines), f"{path}:{first}" if first > 1 else str(path))
