"""JSONL read line by line, so that a bad line is named by file and number."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any

from palmier.errors import Refusal


def read_lines(path: Path, on_bytes: Callable[[int], None] | None = None) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield ``("file:line", object)`` for every line that is not blank; a file called ``….gz`` is unpacked.

    ``on_bytes`` is told the size of each line as it is read. Raises Refusal naming file and
    line where one is not UTF-8, not JSON or not an object.
    """
    try:
        handle = path.open("rb")
    except OSError as error:
        raise Refusal(f"cannot read {path}: {error.strerror}") from None
    with handle:
        for number, line in enumerate(_unpacked(handle, path), start=1):
            where = f"{path}:{number}"
            if on_bytes is not None:
                on_bytes(len(line))
            try:
                text = line.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise Refusal(
                    f"{where}: byte {error.start + 1} of the line is not UTF-8: save the file as UTF-8"
                ) from None
            if text.strip():
                yield where, _object(text, where)


def _unpacked(handle: IO[bytes], path: Path) -> Iterator[bytes]:
    if path.suffix != ".gz":
        yield from handle
        return
    number = 0
    try:
        with gzip.open(handle) as unpacked:
            for line in unpacked:
                number += 1
                yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise Refusal(f"{path}:{number + 1}: the packed file is damaged or cut off: {error}") from None


def _object(text: str, where: str) -> dict[str, Any]:
    try:
        value = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise Refusal(f"{where}: not JSON ({error}): each line must be one JSON object") from None
    if not isinstance(value, dict):
        raise Refusal(f"{where}: a {type(value).__name__}, not an object: each line must be one JSON object")
    return value
