"""`palmier data …` and `palmier tokenizer …`: texts to a tokenizer and to token shards."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import cyclopts

if TYPE_CHECKING:
    from palmier.data.tokenizer import Tokenizer

data_app = cyclopts.App(name="data", help="Texts to token shards.")
tokenizer_app = cyclopts.App(name="tokenizer", help="Train a tokenizer.")


@data_app.command
def prepare(
    *files: Path,
    out: Annotated[Path, cyclopts.Parameter(name=["--out", "-o"])],
    tokenizer: str,
    validation: float = 0.05,
    seed: int = 0,
) -> None:
    """Turn texts into memory-mapped token shards, split by document into training and validation.

    Parameters
    ----------
    files
        Text (.txt), Markdown (.md) and JSONL ({"text": "…"} a line) in UTF-8, or folders with some.
    out
        The folder to write: train.bin, validation.bin, manifest.json.
    tokenizer
        A folder with tokenizer.json, or a model: its name, folder, run, version, .gguf or repository.
    validation
        Share of the documents that is held out; 0 holds none out.
    seed
        Decides which documents are held out.
    """
    from palmier.data import shards
    from palmier.data.documents import find_files, read_documents

    paths = find_files(files)
    vocabulary = _tokenizer(tokenizer)
    with _progress("Preparing", paths) as (on_bytes, tell):
        manifest = shards.prepare(
            read_documents(paths, on_bytes),
            vocabulary,
            out,
            validation,
            seed,
            lambda documents, tokens: tell(f"{documents:,} documents, {tokens:,} tokens"),
        )
    for name, split in manifest.splits.items():
        print(f"{name}: {split.documents:,} documents, {split.tokens:,} tokens")
    print(f"Written to {out}")


@tokenizer_app.command(name="train")
def train_tokenizer(
    *files: Path, out: Annotated[Path, cyclopts.Parameter(name=["--out", "-o"])], vocab_size: int = 8192
) -> None:
    """Train a byte-level BPE tokenizer (digits one by one, GPT-2's pattern, ChatML tokens).

    Parameters
    ----------
    files
        Text (.txt), Markdown (.md) and JSONL ({"text": "…"} a line) in UTF-8, or folders with some.
    out
        The folder to write: tokenizer.json, tokenizer_config.json.
    vocab_size
        Tokens to learn, the 256 bytes and three special tokens included.
    """
    from palmier.data.documents import find_files, read_documents
    from palmier.data.shards import refuse_to_replace
    from palmier.data.tokenizer import FILES, train
    from palmier.workspace import write_whole

    paths = find_files(files)
    target = out.resolve()
    refuse_to_replace(target, FILES)
    with _progress("Reading", paths) as (on_bytes, _):
        vocabulary = train(read_documents(paths, on_bytes), vocab_size)
    with write_whole(target) as folder:
        vocabulary.save(folder)
    if vocabulary.size < vocab_size:
        print(f"The text has no more pairs to merge than for {vocabulary.size:,} tokens.")
    print(f"{vocabulary.size:,} tokens. Written to {out}")


def _tokenizer(spec: str) -> Tokenizer:
    from palmier.data.tokenizer import FILES, Tokenizer
    from palmier.models.names import resolve_model

    return Tokenizer.load(Path(spec) if (Path(spec) / FILES[0]).is_file() else resolve_model(spec))


@contextlib.contextmanager
def _progress(what: str, paths: list[Path]) -> Iterator[tuple[Callable[[int], None], Callable[[str], None]]]:
    """A bar over the bytes of ``paths``: gives what to call with bytes read, and with a text beside the bar."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn(what),
        BarColumn(),
        DownloadColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[beside]}"),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=sum(path.stat().st_size for path in paths), beside="")
        yield lambda count: bar.advance(task, count), lambda text: bar.update(task, beside=text)
