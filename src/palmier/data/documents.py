"""Reads text out of files: plain text, Markdown, and JSONL with a key "text"."""

from __future__ import annotations

import codecs
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

from palmier.data.jsonl import read_lines
from palmier.errors import Refusal
from palmier.records import Document

TEXT = (".txt", ".md", ".markdown")
LINES = (".jsonl",)
PART = 65_536
"""Characters of a text file after which the next blank line begins a further document, so that
a single book can be split and a file of any size is read in little memory. Where no blank line
follows, it is cut after four times as many."""

OnBytes = Callable[[int], None]


def find_files(paths: Iterable[Path]) -> list[Path]:
    """The readable files of ``paths``, folders searched recursively and in order.

    Raises Refusal for a path that does not exist, a file of another kind and a folder without text.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = [item for item in sorted(path.rglob("*")) if _is_text(item) and item.is_file()]
            if not inside:
                raise Refusal(f"No text in {path}: Palmier reads {', '.join(TEXT + LINES)}")
            found += inside
        elif not path.exists():
            raise Refusal(f"{path} does not exist")
        elif not _is_text(path):
            raise Refusal(f"{path} is not a kind of text that Palmier reads: {', '.join(TEXT + LINES)}")
        else:
            found.append(path)
    if not found:
        raise Refusal("no files given: name text files, or folders with some")
    return list(dict.fromkeys(found))


def read_documents(paths: Iterable[Path], on_bytes: OnBytes | None = None) -> Iterator[Document]:
    """Yield the documents of files and folders, one at a time; blank ones are left out.

    A line of JSONL is a document, and so is a text file of ordinary length (see ``PART``).
    ``on_bytes`` is told how many bytes were read. Raises Refusal naming file and line for
    bytes that are not UTF-8 and lines that are not ``{"text": "…"}``, and where all is blank.
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
        more = f" and {len(files) - 1} more files" if len(files) > 1 else ""
        raise Refusal(f"No text in {files[0]}{more}: every document is blank")


def _is_text(path: Path) -> bool:
    return path.suffix.lower() in TEXT + LINES


def _json_lines(path: Path, on_bytes: OnBytes | None) -> Iterator[Document]:
    for where, value in read_lines(path, on_bytes):
        text = value.get("text")
        if not isinstance(text, str):
            raise Refusal(f'{where}: no key "text" with a string: each line must be {{"text": "…"}}')
        yield Document(text, where)


def _text(path: Path, on_bytes: OnBytes | None) -> Iterator[Document]:
    """The parts of a text file; one part for most files."""
    pieces: list[str] = []
    size, line, first, whole = 0, 1, 1, True
    for piece in _pieces(path, on_bytes):
        pieces.append(piece)
        size += len(piece)
        line += piece.endswith("\n")
        if size >= PART and (not piece.strip() or size >= 4 * PART):
            yield Document("".join(pieces), f"{path}:{first}")
            pieces, size, first, whole = [], 0, line, False
    yield Document("".join(pieces), str(path) if whole else f"{path}:{first}")


def _pieces(path: Path, on_bytes: OnBytes | None) -> Iterator[str]:
    """Lines of a file with their ends; a very long line comes in several pieces."""
    decoder = codecs.getincrementaldecoder("utf-8-sig")("strict")
    line = 1
    try:
        with path.open("rb") as handle:
            while raw := handle.readline(PART):
                if on_bytes is not None:
                    on_bytes(len(raw))
                yield decoder.decode(raw)
                line += raw.endswith(b"\n")
            decoder.decode(b"", final=True)
    except UnicodeDecodeError:
        mend = f"save it as UTF-8, for example by: iconv -f latin1 -t utf-8 {path.name} > new.txt"
        raise Refusal(f"{path}:{line}: not UTF-8: {mend}") from None
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None
