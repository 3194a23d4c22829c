"""Token shards: documents as one stream of ids a split, memory-mapped, with a manifest that proves them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from palmier.data.tokenizer import END_OF_TEXT, Tokenizer
from palmier.errors import Refusal
from palmier.records import Document
from palmier.workspace import read_json, write_json, write_whole

MANIFEST = "manifest.json"
TOGETHER = 256
"""Documents encoded in one go."""


class Shards:
    """A folder that ``prepare`` wrote, checked against its manifest when it is opened."""

    def __init__(self, folder: Path, tokenizer: Tokenizer | None = None) -> None:
        """Raises Refusal where the folder has no manifest, or was made by another tokenizer."""
        self.folder = Path(folder)
        if not (self.folder / MANIFEST).is_file():
            raise Refusal(f"{folder} holds no {MANIFEST}: make it with `palmier data prepare FILES… --out {folder}`")
        self.manifest: dict[str, Any] = read_json(self.folder / MANIFEST)
        if tokenizer is not None and self.manifest["tokenizer"] != tokenizer.fingerprint:
            raise Refusal(f"{folder} was made by another tokenizer: prepare it again with this model's")

    def tokens(self, split: str) -> npt.NDArray[Any]:
        """The ids of a split, memory-mapped; raises Refusal where the file is not the manifest's."""
        facts = self.manifest["splits"].get(split)
        if facts is None:
            raise Refusal(f"{self.folder} has no {split} split: it has {', '.join(self.manifest['splits'])}")
        path = self.folder / facts["file"]
        if not path.is_file() or _sha256(path) != facts["sha256"]:
            raise Refusal(f"{path} is not what {MANIFEST} describes: prepare the folder again")
        return np.memmap(path, dtype=self.manifest["dtype"], mode="r")


@dataclass
class _Split:
    handle: BinaryIO
    documents: int = 0
    tokens: int = 0
    bytes: int = 0
    nearest: tuple[float, int, int, int] = field(default=(2.0, 0, 0, 0))


def prepare(
    documents: Iterable[Document],
    tokenizer: Tokenizer,
    out: Path,
    validation: float = 0.05,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Encode documents into ``out``/train.bin, validation.bin and manifest.json; returns the manifest."""
    if not 0.0 <= validation < 1.0:
        raise Refusal(f"a validation share of {validation} is outside 0 … 1")
    dtype = np.dtype("<u2" if tokenizer.size <= 2**16 else "<u4")
    with write_whole(Path(out)) as folder:
        splits: dict[str, dict[str, Any]] = {}
        names = ["train"] + (["validation"] if validation else [])
        handles = {name: (folder / f"{name}.bin").open("wb") for name in names}
        counts = {name: {"documents": 0, "tokens": 0, "bytes": 0} for name in names}
        for document, ids in _encoded(documents, tokenizer):
            name = "validation" if share(document.text, seed) < validation else "train"
            handles[name].write(np.array(ids, dtype=dtype).tobytes())
            counts[name]["documents"] += 1
            counts[name]["tokens"] += len(ids)
            counts[name]["bytes"] += len(document.text.encode("utf-8", "replace"))
            if progress is not None:
                progress(sum(c["documents"] for c in counts.values()), sum(c["tokens"] for c in counts.values()))
        for name in names:
            handles[name].close()
            path = folder / f"{name}.bin"
            splits[name] = {"file": path.name, **counts[name], "sha256": _sha256(path)}
        if any(not split["documents"] for split in splits.values()):
            raise Refusal(
                "too little text: each split needs a document with text; give more, or a validation share of 0"
            )
        manifest = {
            "format": 1,
            "tokenizer": tokenizer.fingerprint,
            "vocab_size": tokenizer.size,
            "dtype": dtype.str,
            "seed": seed,
            "validation": validation,
            "splits": splits,
        }
        write_json(folder / MANIFEST, manifest)
    return manifest


def share(text: str, seed: int) -> float:
    """A number in [0, 1) that a text and a seed decide: equal texts always fall on the same side."""
    digest = hashlib.blake2b(f"{seed}\x1f{text}".encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, "big") / 2**64


def _encoded(documents: Iterable[Document], tokenizer: Tokenizer) -> Iterator[tuple[Document, list[int]]]:
    end = tokenizer.id(END_OF_TEXT)
    waiting: list[Document] = []

    def drain() -> Iterator[tuple[Document, list[int]]]:
        for document, ids in zip(waiting, tokenizer.encode_many([d.text for d in waiting]), strict=True):
            yield document, [*ids, end]
        waiting.clear()

    for document in documents:
        if document.text.strip():
            waiting.append(document)
        if len(waiting) == TOGETHER:
            yield from drain()
    yield from drain()


def _sha256(path: Path) -> str:
    with path.open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()
