"""Token shards: a split's documents as one stream of ids, memory-mapped, with a manifest that proves them.

A folder holds ``train.bin``, ``validation.bin`` (little-endian uint16, or uint32 for a
vocabulary past 65,536) and ``manifest.json``. Every document ends with ``<|endoftext|>``.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from palmier.data.tokenizer import END_OF_TEXT, Tokenizer, whole_characters
from palmier.errors import Refusal
from palmier.records import Document
from palmier.workspace import read_json, sha256, write_json, write_whole

MANIFEST = "manifest.json"
TRAIN, VALIDATION = "train", "validation"
FORMAT = 1
TOGETHER = 1 << 20
"""Characters that are encoded in one go: enough for all cores, little for the memory."""


@dataclass(frozen=True)
class Split:
    """One split's file, what it holds, and its hash. ``bytes`` are of the text, as UTF-8."""

    file: str
    documents: int
    tokens: int
    bytes: int
    sha256: str


@dataclass(frozen=True)
class Manifest:
    """What ``manifest.json`` says. ``tokenizer`` is ``Tokenizer.fingerprint``."""

    format: int
    tokenizer: str
    vocab_size: int
    dtype: str
    seed: int
    validation: float
    splits: dict[str, Split]

    @classmethod
    def read(cls, folder: Path) -> Manifest:
        """Raises Refusal where the folder has none, or one that is damaged or of another format."""
        path = folder / MANIFEST
        if not path.is_file():
            raise Refusal(f"{folder} holds no {MANIFEST}: make it with `palmier data prepare FILES… --out {folder}`")
        value = read_json(path)
        try:
            splits = {name: Split(**facts) for name, facts in value["splits"].items()}
            manifest = cls(**(value | {"splits": splits}))
        except (TypeError, KeyError, AttributeError):
            raise Refusal(f"{path} is damaged: prepare the folder again") from None
        if manifest.format != FORMAT or manifest.dtype not in ("<u2", "<u4"):
            raise Refusal(f"{path} has format {manifest.format}, not {FORMAT}: prepare the folder again")
        return manifest


class Shards:
    """A folder that ``prepare`` wrote. What is read is checked against the manifest."""

    def __init__(self, folder: Path, tokenizer: Tokenizer | None = None) -> None:
        """Raises Refusal where there is no manifest, or where another tokenizer made the folder."""
        self.folder = Path(folder)
        self.manifest = Manifest.read(self.folder)
        if tokenizer is not None and self.manifest.tokenizer != tokenizer.fingerprint:
            raise Refusal(f"{folder} was made by another tokenizer: prepare the texts again with this model's")

    def tokens(self, split: str) -> npt.NDArray[Any]:
        """The ids of a split, memory-mapped, after its hash was compared.

        Raises Refusal where the folder has no such split, or its file is not the manifest's.
        """
        facts = self.manifest.splits.get(split)
        if facts is None:
            raise Refusal(f"{self.folder} has no {split} split, only {', '.join(self.manifest.splits)}")
        path = self.folder / facts.file
        size = facts.tokens * np.dtype(self.manifest.dtype).itemsize
        if not path.is_file() or path.stat().st_size != size or sha256(path) != facts.sha256:
            raise Refusal(f"{path} is not the file that {MANIFEST} describes: prepare the folder again")
        return np.memmap(path, dtype=self.manifest.dtype, mode="r")


def prepare(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: Path,
    validation: float = 0.05,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Encode documents into the folder ``out``, which is written whole or not at all.

    Each document goes to validation with the chance ``validation``, decided by its text and
    ``seed``: equal documents land on the same side, and a grown collection keeps its split.
    Where chance leaves a split empty, one document is moved to it. Documents are streamed.
    ``progress`` is told documents and tokens so far. Raises Refusal where there are too few
    documents, and where ``out`` holds anything but an earlier result.
    """
    if not 0.0 <= validation < 1.0:
        raise Refusal(f"a validation share of {validation} is outside 0 … 1 (0.05 is one document in twenty)")
    out = Path(out).resolve()
    refuse_to_replace(out, (MANIFEST, f"{TRAIN}.bin", f"{VALIDATION}.bin"))
    dtype = np.dtype("<u2" if tokenizer.size <= 1 << 16 else "<u4")
    with write_whole(out) as folder, contextlib.ExitStack() as stack:
        writers = {name: _Writer(folder / f"{name}.bin", dtype) for name in (TRAIN, VALIDATION)}
        for writer in writers.values():
            stack.callback(writer.close)
        for document, ids in _encoded(documents, tokenizer):
            place = share(document.text, seed)
            size = len(whole_characters(document.text).encode())
            writers[VALIDATION if place < validation else TRAIN].add(ids, place, size)
            if progress is not None:
                progress(sum(w.documents for w in writers.values()), sum(w.tokens for w in writers.values()))
        _fill_empty(writers, validation)
        splits = {name: writer.finish() for name, writer in writers.items()}
        kept = {name: split for name, split in splits.items() if split.documents}
        for name in splits.keys() - kept.keys():
            (folder / splits[name].file).unlink()
        manifest = Manifest(FORMAT, tokenizer.fingerprint, tokenizer.size, dtype.str, seed, validation, kept)
        write_json(folder / MANIFEST, asdict(manifest))
    return manifest


def share(text: str, seed: int) -> float:
    """A number in [0, 1) that a text and a seed decide."""
    digest = hashlib.blake2b(f"{seed}\x1f{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def refuse_to_replace(out: Path, own: Iterable[str]) -> None:
    """Raise Refusal where ``out`` is a file, or a folder with anything but files named in ``own``."""
    if out.exists() and not out.is_dir():
        raise Refusal(f"{out} is a file: name a folder")
    strange = sorted({path.name for path in out.iterdir()} - set(own)) if out.is_dir() else []
    if strange:
        raise Refusal(f"{out} holds other things ({strange[0]}), which would be lost: name a new folder")


class _Writer:
    """Appends documents to one split's file and remembers the one that is cheapest to move."""

    def __init__(self, path: Path, dtype: np.dtype[Any]) -> None:
        self.path, self.dtype = path, dtype
        self.documents = self.tokens = self.bytes = 0
        self.lowest = self.highest = (0.0, 0, 0, 0)  # share, first token, tokens, bytes
        self._handle = path.open("wb")

    def add(self, ids: npt.NDArray[Any] | list[int], place: float, size: int) -> None:
        document = (place, self.tokens, len(ids), size)
        self.lowest = min(self.lowest, document) if self.documents else document
        self.highest = max(self.highest, document) if self.documents else document
        self._handle.write(np.asarray(ids, dtype=self.dtype).tobytes())
        self.documents += 1
        self.tokens += len(ids)
        self.bytes += size

    def take(self, document: tuple[float, int, int, int]) -> npt.NDArray[Any]:
        """Cut a document out of the file; only done where there are few."""
        _, first, count, size = document
        self._handle.close()
        whole = np.fromfile(self.path, dtype=self.dtype)
        self._handle = self.path.open("wb")
        self._handle.write(np.delete(whole, np.s_[first : first + count]).tobytes())
        self.documents -= 1
        self.tokens -= count
        self.bytes -= size
        return whole[first : first + count]

    def close(self) -> None:
        self._handle.close()

    def finish(self) -> Split:
        self.close()
        return Split(self.path.name, self.documents, self.tokens, self.bytes, sha256(self.path))


def _fill_empty(writers: dict[str, _Writer], validation: float) -> None:
    """Give each split that was asked for a document; raise Refusal where there are not enough."""
    total = sum(writer.documents for writer in writers.values())
    if not total:
        raise Refusal("No text to prepare: every document is blank")
    if validation and total == 1:
        raise Refusal(
            "only one document (a file or a JSONL line; a long file counts as several), so that none can be "
            "held out for validation: give more text, or --validation 0"
        )
    train, held_out = writers[TRAIN], writers[VALIDATION]
    if validation and not held_out.documents:
        place, _, _, size = moved = train.lowest
        held_out.add(train.take(moved), place, size)
    elif not train.documents:
        place, _, _, size = moved = held_out.highest
        train.add(held_out.take(moved), place, size)


def _encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int]]]:
    end = tokenizer.id(END_OF_TEXT)
    waiting: list[Document] = []
    size = 0
    for document in documents:
        if not document.text.strip():
            continue
        waiting.append(document)
        size += len(document.text)
        if size >= TOGETHER:
            yield from _encode(waiting, tokenizer, end)
            waiting, size = [], 0
    yield from _encode(waiting, tokenizer, end)


def _encode(documents: list[Document], tokenizer: Tokenizer, end: int) -> Iterator[tuple[Document, list[int]]]:
    encoded = tokenizer.encode_many([document.text for document in documents])
    for document, ids in zip(documents, encoded, strict=True):
        yield document, [*ids, end]
