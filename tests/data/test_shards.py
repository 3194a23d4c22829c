"""Shards: split by document, proved by a manifest, refused when anything differs, written whole."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from palmier.data import shards
from palmier.data.shards import Shards, prepare
from palmier.data.tokenizer import Tokenizer, train
from palmier.errors import Refusal
from palmier.records import Document


def read(folder: Path, split: str, tokenizer: Tokenizer) -> list[str]:
    ids = Shards(folder, tokenizer).tokens(split)
    ends = np.flatnonzero(ids == tokenizer.id("<|endoftext|>"))
    assert ends[-1] == len(ids) - 1
    return [tokenizer.decode(part) for part in np.split(ids, ends + 1)[:-1]]


@pytest.mark.parametrize("together", [1, 700, shards.TOGETHER])
def test_every_document_is_in_one_split_whole_and_in_order(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path, together: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "TOGETHER", together)
    told: list[tuple[int, int]] = []
    blank = [Document(" \n", "blank")]
    manifest = prepare(iter(documents + blank), tokenizer, tmp_path / "out", 0.2, 7, lambda *now: told.append(now))
    texts = {split: read(tmp_path / "out", split, tokenizer) for split in ("train", "validation")}
    everything = [document.text for document in documents]
    assert sorted(texts["train"] + texts["validation"]) == sorted(everything)
    for split in texts.values():
        assert split == [text for text in everything if text in split]
    assert 10 <= len(texts["validation"]) <= 40
    for name, facts in manifest.splits.items():
        assert facts.documents == len(texts[name])
        assert facts.bytes == sum(len(text.encode()) for text in texts[name])
        assert facts.tokens == len(Shards(tmp_path / "out").tokens(name))
    assert told[-1] == (len(documents), sum(split.tokens for split in manifest.splits.values()))


def test_the_split_is_seeded_and_grows_with_the_data(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    def held_out(name: str, given: list[Document], seed: int) -> list[str]:
        prepare(given, tokenizer, tmp_path / name, 0.2, seed)
        return read(tmp_path / name, "validation", tokenizer)

    first = held_out("a", documents, 0)
    assert held_out("b", documents, 0) == first
    assert held_out("c", documents, 1) != first
    assert set(held_out("d", documents[:60], 0)) == set(first) & {document.text for document in documents[:60]}


def test_equal_documents_stay_on_one_side(documents: list[Document], tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepare(documents + documents, tokenizer, tmp_path / "out", 0.3)
    sides = [set(read(tmp_path / "out", split, tokenizer)) for split in ("train", "validation")]
    assert not sides[0] & sides[1]


@pytest.mark.parametrize("validation", [0.001, 0.999])
def test_a_split_that_chance_left_empty_gets_a_document(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path, validation: float
) -> None:
    manifest = prepare(documents[:3], tokenizer, tmp_path / "out", validation)
    assert sorted(split.documents for split in manifest.splits.values()) == [1, 2]
    both = [read(tmp_path / "out", split, tokenizer) for split in ("train", "validation")]
    assert sorted(both[0] + both[1]) == sorted(document.text for document in documents[:3])
    assert [split.bytes for split in manifest.splits.values()] == [sum(len(t.encode()) for t in side) for side in both]


def test_without_validation_there_is_no_such_file(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    prepare(documents, tokenizer, tmp_path / "out", 0.0)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "train.bin"]
    with pytest.raises(Refusal, match="no validation split, only train"):
        Shards(tmp_path / "out").tokens("validation")


def test_too_little_text_is_refused_in_clear_words(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    with pytest.raises(Refusal, match="No text"):
        prepare([Document("\n", "a")], tokenizer, tmp_path / "out")
    with pytest.raises(Refusal, match=r"only one document.*--validation 0"):
        prepare(documents[:1], tokenizer, tmp_path / "out")
    with pytest.raises(Refusal, match="outside 0 … 1"):
        prepare(documents, tokenizer, tmp_path / "out", 1.0)
    assert list(tmp_path.iterdir()) == []
    assert list(prepare(documents[:1], tokenizer, tmp_path / "out", 0.0).splits) == ["train"]


def test_files_that_are_not_the_manifests_are_refused(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    prepare(documents, tokenizer, folder)
    path = folder / "train.bin"
    whole = path.read_bytes()
    for damaged in (whole[:-2], whole + b"\0\0", bytes([whole[0] ^ 1]) + whole[1:]):
        path.write_bytes(damaged)
        with pytest.raises(Refusal, match=r"train\.bin is not the file that manifest\.json describes"):
            Shards(folder).tokens("train")
    path.unlink()
    with pytest.raises(Refusal, match=r"train\.bin is not the file"):
        Shards(folder).tokens("train")


def test_another_tokenizer_is_refused(documents: list[Document], tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepare(documents, tokenizer, tmp_path / "out")
    with pytest.raises(Refusal, match="another tokenizer"):
        Shards(tmp_path / "out", train(documents, 400))


@pytest.mark.parametrize("text", ["{", "[]", "{}", '{"splits": {"train": {}}}', '{"splits": 3}'])
def test_a_damaged_manifest_is_refused(text: str, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text(text)
    with pytest.raises(Refusal, match=r"manifest\.json"):
        Shards(tmp_path)
    with pytest.raises(Refusal, match=r"no manifest\.json: make it with `palmier data prepare"):
        Shards(tmp_path / "elsewhere")


def test_an_unknown_format_is_refused(documents: list[Document], tokenizer: Tokenizer, tmp_path: Path) -> None:
    prepare(documents, tokenizer, tmp_path / "out")
    path = tmp_path / "out" / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(Refusal, match="format 2"):
        Shards(tmp_path / "out")


def test_a_failure_in_the_middle_leaves_what_was_there(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    folder = tmp_path / "out"
    prepare(documents, tokenizer, folder)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    def broken() -> Iterator[Document]:
        yield from documents[:50]
        raise Refusal("posts.jsonl:51: not JSON")

    with pytest.raises(Refusal, match=r"posts\.jsonl:51"):
        prepare(broken(), tokenizer, folder, seed=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    prepare(documents, tokenizer, folder, seed=3)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} != before


def test_a_folder_with_other_things_is_never_replaced(
    documents: list[Document], tokenizer: Tokenizer, tmp_path: Path
) -> None:
    (tmp_path / "thesis.txt").write_text("ten years of work")
    for out in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(Refusal, match="name a"):
            prepare(documents, tokenizer, out)
    assert (tmp_path / "thesis.txt").read_text() == "ten years of work"


def test_a_large_vocabulary_takes_four_bytes(tokenizer: Tokenizer, documents: list[Document], tmp_path: Path) -> None:
    class Large(Tokenizer):
        @property
        def size(self) -> int:
            return 70_000

    large = Large(tokenizer._backend, tokenizer.config)
    assert prepare(documents, large, tmp_path / "out").dtype == "<u4"
    assert read(tmp_path / "out", "train", tokenizer)[0].startswith("The harbour")
