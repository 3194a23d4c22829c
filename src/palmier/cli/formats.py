"""`palmier import` and `palmier export`: models from and for the programs that read GGUF."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, Literal

import cyclopts


def import_gguf(file: Path, /, *, out: Annotated[Path, cyclopts.Parameter(name=["--out", "-o"])]) -> None:
    """Turn a GGUF file into a model's folder, which every command here reads.

    Parameters
    ----------
    file
        A GGUF of a Llama, Qwen2, Qwen3 or command-r (as a PaLM is called there) with a byte-level BPE tokenizer.
    out
        The folder to write: config.json, model.safetensors, tokenizer.json, tokenizer_config.json.
    """
    from palmier.data.shards import refuse_to_replace
    from palmier.model import gguf

    refuse_to_replace(out, ("config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json", "README.md"))
    with _progress("Importing") as progress:
        config = gguf.import_gguf(file, out, progress=progress)
    name = {"palm": "PaLM", "llama": "Llama"}.get(config.family, config.family.capitalize())
    print(f"{name}, {config.num_layers} blocks, {config.vocab_size:,} tokens. Written to {out}")
    print(f"Next: palmier serve --model {out}, or palmier sft --model {out} --data FILE.jsonl --out RUN")


def export(
    model: str,
    /,
    *,
    out: Annotated[Path, cyclopts.Parameter(name=["--out", "-o"])],
    type: Literal["f16", "bf16", "q8_0"] = "f16",
) -> None:
    """Write a model as one GGUF file, for llama.cpp and what is built on it.

    Parameters
    ----------
    model
        A folder with config.json, a run's folder, a version or a model's name.
    out
        The file to write.
    type
        How matrices are stored: f16 and bf16 take 2 bytes a number, q8_0 a little more than 1.
    """
    from palmier.model.gguf_export import export_gguf
    from palmier.models.names import resolve_model

    folder = resolve_model(model)
    _refuse_to_replace(out)
    with _progress("Exporting") as progress:
        made = export_gguf(folder, out, type, progress)
    print(f"{made.architecture}, {made.parameters:,} parameters, {made.bytes / 1e6:,.1f} MB. Written to {out}")
    if made.narrow:
        print(f"{len(made.narrow)} tensors stayed f16: their rows are no multiple of 32 numbers ({made.narrow[0]}, …).")
    print(f"Next: llama-cli -m {out}, or any program that reads GGUF")


def _refuse_to_replace(out: Path) -> None:
    """Raise Refusal where ``out`` is a folder or a file of another kind, which would be lost."""
    from palmier.errors import Refusal

    if out.is_dir():
        raise Refusal(f"{out} is a folder: name a file")
    if out.exists():
        with out.open("rb") as file:
            if file.read(4) != b"GGUF":
                raise Refusal(f"{out} is another kind of file, which would be lost: name a new one")


@contextlib.contextmanager
def _progress(what: str) -> Iterator[Callable[[int, int], None]]:
    """A bar over tensors: gives what to call with those done and all."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (TextColumn(what), BarColumn(), MofNCompleteColumn(), TextColumn("tensors"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)
