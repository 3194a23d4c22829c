"""Readers: what is read, in which order and parts, and how a bad file or line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from palmier.data.documents import PART, find_files, read_documents
from palmier.data.jsonl import read_lines
from palmier.errors import Refusal


def test_files_and_folders_are_read_in_order_each_once(tmp_path: Path) -> None:
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "two.MD").write_text("# Two")
    (tmp_path / "a.txt").write_text("One", "utf-8-sig")
    (tmp_path / "c.jsonl").write_text('{"text": "Three", "title": "x"}\n\n{"text": "  "}\n{"text": "Four\\nlines"}\n')
    (tmp_path / "blank.txt").write_text(" \n\n")
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    found = list(read_documents([tmp_path, tmp_path / "a.txt"]))
    assert [document.text for document in found] == ["One", "# Two", "Three", "Four\nlines"]
    assert [document.source.removeprefix(f"{tmp_path}/") for document in found] == [
        "a.txt", "b/two.MD", "c.jsonl:1", "c.jsonl:4",
    ]  # fmt: skip


def test_a_long_file_becomes_several_documents_and_loses_nothing(tmp_path: Path) -> None:
    paragraphs = "".join(f"Paragraph {n} says é.\n" + "\n" * (n % 7 == 0) for n in range(12_000))
    (tmp_path / "book.txt").write_text(paragraphs, "utf-8")
    (tmp_path / "log.txt").write_text("one line without an end 🦙 " * 20_000, "utf-8")
    read = 0

    def count(size: int) -> None:
        nonlocal read
        read += size

    book = list(read_documents([tmp_path / "book.txt"], count))
    assert "".join(document.text for document in book) == paragraphs
    assert len(book) > 2
    assert all(PART <= len(document.text) < PART + 1000 for document in book[:-1])
    assert all(document.text.endswith("\n\n") for document in book[:-1])
    lines = paragraphs.split("\n")
    for document in book:
        assert lines[int(document.source.rpartition(":")[2]) - 1] == document.text.split("\n")[0]
    log = list(read_documents([tmp_path / "log.txt"], count))
    assert "".join(document.text for document in log) == "one line without an end 🦙 " * 20_000
    assert len(log) > 1
    assert {document.source for document in log} == {f"{tmp_path}/log.txt:1"}
    assert all(len(document.text) < 6 * PART for document in log)
    assert read == sum((tmp_path / name).stat().st_size for name in ("book.txt", "log.txt"))


def test_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "picture.png").write_bytes(b"\x89PNG")
    for paths, said in (
        ([tmp_path], f"No text in {tmp_path}"),
        ([tmp_path / "picture.png"], "is not a kind of text"),
        ([tmp_path / "gone.txt"], "does not exist"),
        ([], "no files given"),
    ):
        with pytest.raises(Refusal, match=said):
            find_files(paths)
    for name in ("a.txt", "b.md"):
        (tmp_path / name).write_text(" \n")
    with pytest.raises(Refusal, match=r"No text in .*a\.txt and 1 more files: every document is blank"):
        list(read_documents([tmp_path]))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (b'{"text": "x"', "not JSON"),
        (b'["x"]', "a list, not an object"),
        (b'{"txt": "x"}', 'no key "text"'),
        (b'{"text": 3}', 'no key "text" with a string'),
        (b'{"text": "\xe9"}', "not UTF-8"),
        (b"[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_line_is_named(line: bytes, said: str, tmp_path: Path) -> None:
    path = tmp_path / "posts.jsonl"
    path.write_bytes(b'{"text": "fine"}\n\n' + line + b"\n")
    with pytest.raises(Refusal) as refusal:
        list(read_documents([path]))
    assert str(refusal.value).startswith(f"{path}:3: ")
    assert said in str(refusal.value)


@pytest.mark.parametrize("bad", ["caf\xe9\nfine\n".encode("latin-1"), b"fine\n" * 3 + b"cut off \xf0\x9f\xa6"])
def test_a_text_that_is_not_utf8_is_named_by_line(bad: bytes, tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_bytes(b"fine\nfine\n" + bad)
    line = 3 if b"caf" in bad else 6
    with pytest.raises(Refusal, match=rf"notes\.txt:{line}: not UTF-8.*iconv"):
        list(read_documents([path]))


def test_lines_may_hold_every_unicode_line_end(tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text('{"text": "a\u2028b\x85c"}\n{"text": "d"}', "utf-8")
    assert [where.rpartition(":")[2] for where, _ in read_lines(path)] == ["1", "2"]
