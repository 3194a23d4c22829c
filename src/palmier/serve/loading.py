"""A version in memory: its weights, its engine and its chat template."""

from __future__ import annotations

import contextlib
import time
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.generate.engine import Engine
from palmier.generate.requests import QueueFull, Request
from palmier.model.checkpoint import load as load_decoder
from palmier.model.decoder import Decoder
from palmier.scale import precision as precisions
from palmier.scale.precision import Precision
from palmier.scale.runtime import FEW, default_dtype, keep_programs, release_workers
from palmier.versions import Version

if TYPE_CHECKING:
    from palmier.serve.ticket import Ticket
    from palmier.serve.work import Work

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
    work: deque[Work[Any]] = field(default_factory=deque)
    """Jobs that are done between the engine's steps, in order of arrival."""
    used: float = field(default_factory=time.monotonic)
    chosen: bool = False
    """Somebody asked for it by name: it stays after its last answer, as long as there is room."""

    @property
    def busy(self) -> bool:
        """Whether there is something to do for it."""
        return self.engine.busy or bool(self.work)

    def add(self, ticket: Ticket) -> Request:
        """Ask the engine; a refusal is told without our name for the request, which nobody knows."""
        try:
            request = ticket.request(self.template, self.engine.context)
            self.engine.add(request)
        except QueueFull:
            raise
        except Refusal as refusal:
            sentence = str(refusal).removeprefix(f"{ticket.id}: ")
            raise Refusal(sentence, refusal.param, refusal.code) from None
        return request

    def work_on(self) -> None:
        """The next slice of the job that came first."""
        if self.work:
            if not self.work[0].go_on(self):
                self.work.popleft()
            self.used = time.monotonic()

    def new_engine(self) -> Engine:
        """An engine without requests, for the same weights."""
        return _engine(self.decoder)


@dataclass(frozen=True)
class State:
    """What the pages show: the version that answers, those in memory, what went wrong last."""

    current: str = ""
    precision: str = ""
    loaded: tuple[str, ...] = ()
    loading: tuple[str, ...] = ()
    under_way: int = 0
    problem: str = ""
    backend: str = ""
    """The address of the server that answers, where it is another one."""


def load(version: Version, precision: Precision = "auto") -> Loaded:
    """Read a version from its folder. Raises Refusal where it is damaged or memory is too short."""
    keep_programs(FEW)
    count = precisions.parameters(version.folder)
    precision = precisions.choose(precision, count)
    with contextlib.ExitStack() as until_loaded:
        hold = until_loaded.enter_context(version.hold())
        _check_memory(version, count * precisions.BYTES[precision])
        template = Template.load(version.folder)
        decoder = precisions.load(version.folder, precision)
        loaded = Loaded(version, decoder, template, _engine(decoder), hold)
        until_loaded.pop_all()
    release_workers()  # from here on the engine's thread alone multiplies
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
