"""The demo's chain: named stages in a fixed order, each written whole, skipped when it is done.

``DIR/demo.json`` says what the folder is (size, seed, text); ``DIR/stages/NAME.json`` says that a
stage is done, in how many seconds, and what it found. A stage that was killed is begun again;
training stages go on from their last saved step.
"""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from palmier.demo.sizes import Size
from palmier.demo.world import World, create, rng
from palmier.errors import Refusal
from palmier.workspace import Workspace, read_json, write_json


@dataclass(frozen=True)
class Demo:
    """One run of the demo in one folder: what it is about, and where everything lies."""

    out: Path
    size: Size
    seed: int
    text: Path | None = None
    """The user's own text to pre-train on; None is the world's."""

    @cached_property
    def world(self) -> World:
        return create(self.seed)

    @property
    def home(self) -> Workspace:
        """The home that `palmier serve` opens."""
        return Workspace(self.out / "home")

    @property
    def requests(self) -> Path:
        return self.out / "requests"

    @property
    def runs(self) -> Path:
        """One folder a training run."""
        return self.out / "runs"

    @property
    def rankings(self) -> Path:
        return self.out / "rankings"

    @property
    def results(self) -> Path:
        return self.out / "results.json"

    @property
    def report(self) -> Path:
        return self.out / "report.html"

    def draw_seed(self, *purpose: str | int) -> int:
        """A seed for one purpose, made of the demo's own."""
        return rng(self.seed, *purpose).getrandbits(40)

    def marker(self, stage: str) -> Path:
        return self.out / "stages" / f"{stage}.json"

    def found(self, stage: str) -> dict[str, Any]:
        """What a finished stage found; raises Refusal where it has not run."""
        facts: dict[str, Any] = read_json(self.marker(stage))["found"]
        return facts


@dataclass(frozen=True)
class Stage:
    """One link of the chain. ``run`` returns what the report will say of it, as JSON."""

    name: str
    title: str
    run: Callable[[Demo], Mapping[str, Any]]


Say = Callable[[str], None]


def run(demo: Demo, stages: tuple[Stage, ...], say: Say) -> None:
    """Do every stage that is not done. Raises Refusal where the folder is another demo's."""
    with demo.home.exclusively("palmier demo"):
        _open(demo)
        for number, stage in enumerate(stages, 1):
            if demo.marker(stage.name).is_file():
                continue
            say(f"[{number}/{len(stages)}] {stage.title}")
            started = time.monotonic()
            again = (demo.out / "stages" / f"{stage.name}.begun").exists()
            _begin(demo, stage)
            found = stage.run(demo)
            seconds = time.monotonic() - started
            write_json(
                demo.marker(stage.name),
                {"seconds": round(seconds, 1), "resumed": again, "found": dict(found)},
            )


def seconds(demo: Demo, stages: tuple[Stage, ...]) -> dict[str, float]:
    """Seconds that each finished stage took (its last session, where it was resumed)."""
    return {
        stage.name: read_json(demo.marker(stage.name))["seconds"]
        for stage in stages
        if demo.marker(stage.name).is_file()
    }


def _begin(demo: Demo, stage: Stage) -> None:
    path = demo.out / "stages" / f"{stage.name}.begun"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def _open(demo: Demo) -> None:
    """Begin the folder, or check that it holds this very demo."""
    path = demo.out / "demo.json"
    size = dataclasses.asdict(demo.size) | {"curve": list(demo.size.curve)}
    wanted = {"seed": demo.seed, "text": None if demo.text is None else str(demo.text), **size}
    if not path.is_file():
        write_json(path, wanted)
        return
    before = read_json(path)
    for key in ("name", *sorted({*wanted, *before})):
        if before.get(key) != wanted.get(key):
            raise _another(demo, "size" if key == "name" else key, before.get(key), wanted.get(key))


def _another(demo: Demo, key: str, before: object, now: object) -> Refusal:
    return Refusal(
        f"{demo.out} holds a demo with {key} {before}, not {now}: "
        "go on with the same options, or choose another folder with --out"
    )
