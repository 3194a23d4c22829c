"""A version in memory: its weights, its engine and its chat template."""

from __future__ import annotations

import contextlib
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.model.checkpoint import load as load_decoder
from palmier.model.decoder import Decoder
from palmier.scale import precision as precisions
from palmier.scale.precision import Precision
from palmier.scale.runtime import default_dtype
from palmier.versions import Version

if TYPE_CHECKING:
    from palmier.serve.live import Ticket

SLOTS = 12
"""Answers that one version draws at the same time: nine to be ranked, and a few chats beside them."""

CACHE_BYTES = 1 << 30
"""Most memory for one version's keys and values; where it holds less than a model's context, that is cut to fit."""

QUEUE = 64
"""Requests that may wait for a slot; one more is answered "ask again later"."""


@dataclass
class Loaded:
    """One version that can answer, and the requests that it is answering."""

    version: Version
    decoder: Decoder
    template: Template
    engine: Engine
    hold: IO[bytes]
    """What keeps its folder from being deleted; closed when it leaves the memory."""
    tickets: dict[str, Ticket] = field(default_factory=dict)
    used: float = field(default_factory=time.monotonic)
    chosen: bool = False
    """Somebody asked for it by name: it stays after its last answer, as long as there is room."""

    def new_engine(self) -> Engine:
        """An engine without requests, for the same weights."""
        return _engine(self.decoder)


def load(version: Version, precision: Precision = "auto") -> Loaded:
    """Read a version from its folder. Raises Refusal where it is damaged or memory is too short."""
    count = precisions.parameters(version.folder)
    precision = precisions.choose(precision, count)
    with contextlib.ExitStack() as until_loaded:
        hold = until_loaded.enter_context(version.hold())
        _check_memory(version, count * precisions.BYTES[precision])
        template = Template.load(version.folder)
        decoder = precisions.load(version.folder, precision)
        loaded = Loaded(version, decoder, template, _engine(decoder), hold)
        until_loaded.pop_all()
    return loaded


def check(folder: Path) -> None:
    """Raise Refusal where a folder holds no model that can answer: a part damaged, of another kind, or missing."""
    Template.load(folder)
    load_decoder(folder, default_dtype())


def _engine(decoder: Decoder) -> Engine:
    return Engine(decoder, slots=SLOTS, queue=QUEUE, memory=CACHE_BYTES)


def _check_memory(version: Version, weights: int) -> None:
    """Refuse before the machine begins to swap with ``weights`` bytes more; where the system does not tell, go on."""
    wanted = weights + CACHE_BYTES
    meminfo = Path("/proc/meminfo")
    if not meminfo.is_file():
        return
    lines = meminfo.read_text("ascii").splitlines()
    free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    if wanted > free:
        raise Refusal(
            f"version {version.name} needs about {wanted / 2**30:.1f} GiB of memory and {free / 2**30:.1f} are free: "
            "close something, or answer with a smaller model"
        )
