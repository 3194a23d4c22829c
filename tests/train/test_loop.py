"""The loop's promises: the split of a batch does not show, a stopped run goes on bit for bit, nothing is lost."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from palmier.errors import Refusal
from palmier.scale.runtime import generator
from palmier.train import loop
from palmier.train.loop import Diverged, Stopped, Trainer
from palmier.train.optimizer import Optimization

STEPS = 7
HOW = Optimization(lr=1e-2, warmup=2, weight_decay=0.1, save_every=2, precision="fp32")


@dataclass(frozen=True)
class Settings:
    out: Path
    lr: float = 1e-2
    data: Path = Path("texts")


class Toy:
    """A small net, a batch that depends on the step alone, and a trainer over them."""

    def __init__(self, out: Path, how: Optimization = HOW, steps: int = STEPS, **settings: Any) -> None:
        draw = generator("toy")
        self.net = nn.Sequential(nn.Embedding(11, 8), nn.Linear(8, 11))
        with torch.no_grad():
            for weight in self.net.parameters():
                weight.copy_(torch.randn(weight.shape, generator=draw))
        self.calls = 0
        self.trainer = Trainer(
            out, self.net, how, steps=steps, stage="toy", settings=Settings(out, **settings), save=self.save
        )

    def save(self, folder: Path) -> None:
        save_file({name: w.clone() for name, w in self.net.state_dict().items()}, folder / "model.safetensors")

    @staticmethod
    def batch(step: int) -> dict[str, Tensor]:
        tokens = torch.randint(11, (8, 5), generator=generator("batch", step))
        return {"tokens": tokens, "targets": tokens.roll(1, 1), "weight": torch.arange(8) % 3}

    def loss(self, rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        self.calls += 1
        logits = self.net(rows["tokens"]).float()
        each = nn.functional.cross_entropy(logits.transpose(1, 2), rows["targets"], reduction="none")
        right = (logits.argmax(-1) == rows["targets"]).float().sum(1)
        return (each.sum(1) * rows["weight"]).sum(), {"right": (right * rows["weight"]).sum()}

    def run(self, until: int = STEPS) -> dict[str, Tensor]:
        for step in self.trainer.remaining():
            if step == until:
                break
            batch = self.batch(step)
            self.trainer.step(self.loss, batch, float(batch["weight"].sum()) * 5)
        return {name: weight.detach().clone() for name, weight in self.net.state_dict().items()}


def metrics(run: Path, *, timing: bool = False) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return lines if timing else [{k: v for k, v in line.items() if k != "timing"} for line in lines]


def same(left: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    lines: list[str] = []
    monkeypatch.setattr(loop, "say", lines.append)
    return lines


# -- accumulation ------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [1, 2, 3, 8])
def test_the_split_into_micro_batches_does_not_show(tmp_path: Path, rows: int) -> None:
    whole, split = Toy(tmp_path / "whole"), Toy(tmp_path / "split", replace(HOW, micro_batch=rows))
    gradients: list[list[Tensor]] = []
    for toy in (whole, split):
        step = toy.trainer.optimizer.step
        toy.trainer.optimizer.step = lambda *a, toy=toy, step=step: (  # type: ignore[method-assign]  # a look at the gradient
            gradients.append([w.grad.clone() for w in toy.net.parameters() if w.grad is not None]),
            step(*a),
        )[1]
        toy.run(1)
    assert split.calls == -(-8 // rows)
    for left, right in zip(*gradients, strict=True):
        torch.testing.assert_close(left, right, atol=1e-6, rtol=1e-6)
    first, second = metrics(tmp_path / "whole")[0], metrics(tmp_path / "split")[0]
    assert first == pytest.approx(second, rel=1e-6)


def test_a_sequence_of_micro_batches_counts_as_one_batch(tmp_path: Path) -> None:
    whole, given = Toy(tmp_path / "whole"), Toy(tmp_path / "given")
    batch, norm = Toy.batch(0), 30.0
    parts = [{name: value[rows] for name, value in batch.items()} for rows in (slice(0, 5), slice(5, 8))]
    assert given.trainer.update(given.loss, parts, norm) == pytest.approx(whole.trainer.update(whole.loss, batch, norm))


def test_norm_divides_loss_gradient_and_metrics(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    expected, right = toy.loss(toy.batch(0))
    found = toy.trainer.update(toy.loss, toy.batch(0), 4.0)
    assert found["loss"] == pytest.approx(float(expected.detach()) / 4.0)
    assert found["right"] == pytest.approx(float(right["right"]) / 4.0)


def test_a_batch_with_rows_that_differ_is_a_bug_that_shows(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(ValueError, match="differ in rows"):
        toy.trainer.update(toy.loss, toy.batch(0) | {"weight": torch.ones(3)}, 1.0)


# -- every number of Optimization acts ---------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [{"lr": 2e-2}, {"schedule": "linear"}, {"schedule": "wsd", "decay": 0.9}, {"warmup": 0}, {"floor": 0.5},
     {"beta1": 0.5}, {"beta2": 0.5}, {"eps": 1e-2}, {"weight_decay": 0.5}, {"clip": 0.1}, {"embedding_lr": 2.0},
     {"precision": "bf16"}],
)  # fmt: skip
def test_each_field_changes_the_weights(tmp_path: Path, change: dict[str, Any]) -> None:
    base = replace(HOW, schedule="wsd") if "decay" in change else HOW
    assert not same(Toy(tmp_path / "a", base).run(), Toy(tmp_path / "b", replace(base, **change)).run())


def test_save_every_changes_what_is_kept(tmp_path: Path) -> None:
    Toy(tmp_path / "two").run()
    Toy(tmp_path / "three", replace(HOW, save_every=3)).run()
    Toy(tmp_path / "end", replace(HOW, save_every=0)).run()
    kept = {name: {p.name for p in (tmp_path / name).glob("step-*")} for name in ("two", "three", "end")}
    # The final one and the two before it; older ones are gone.
    assert kept == {"two": {"step-4", "step-6", "step-7"}, "three": {"step-3", "step-6", "step-7"}, "end": {"step-7"}}
    assert (tmp_path / "two" / "latest").read_text() == "step-7\n"


@pytest.mark.parametrize(
    ("compile", "tokens", "compiler", "expected"),
    [("auto", 2048, True, False), ("auto", 10**12, True, True), ("yes", 0, True, True), ("no", 10**12, True, False),
     ("auto", 10**12, False, False), ("yes", 0, False, False)],
)  # fmt: skip
def test_it_compiles_where_that_pays_and_says_so(
    tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch,
    compile: Any, tokens: int, compiler: bool, expected: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(loop.runtime, "has_compiler", lambda: compiler)
    net = nn.Linear(8, 8)
    how = replace(HOW, compile=compile)
    Trainer(tmp_path, net, how, steps=9, stage="toy", settings=Settings(tmp_path), save=print, tokens_per_step=tokens)
    assert json.loads((tmp_path / "run.json").read_text())["compiled"] is expected
    assert ("not compiled" in said[0]) is not expected


# -- stop, die, go on --------------------------------------------------------------------------


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("died", [1, 2, 3, 5, 6])
def test_a_run_that_died_goes_on_bit_for_bit(tmp_path: Path, died: int, precision: Any) -> None:
    how = replace(HOW, precision=precision)
    undisturbed = Toy(tmp_path / "a", how).run()
    first = Toy(tmp_path / "b", how)
    first.run(died)
    del first
    with (tmp_path / "b" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 99, "loss": 1.')  # what a dying process tore
    second = Toy(tmp_path / "b", how)
    assert second.trainer.done == died // 2 * 2
    assert same(second.run(), undisturbed)
    assert metrics(tmp_path / "b") == metrics(tmp_path / "a")
    saved = [load_file(tmp_path / name / "step-7" / "model.safetensors") for name in ("a", "b")]
    assert same(*saved)


def test_timing_is_apart_so_that_the_rest_can_be_compared(tmp_path: Path) -> None:
    Toy(tmp_path).run()
    line = metrics(tmp_path, timing=True)[0]
    assert set(line["timing"]) == {"seconds", "tokens_per_second"}
    assert line["step"] == 1
    assert line["timing"]["tokens_per_second"] == pytest.approx(40 / line["timing"]["seconds"], rel=0.2)


def test_changed_settings_are_refused_by_name(tmp_path: Path) -> None:
    Toy(tmp_path).run(3)
    with pytest.raises(Refusal, match=r"begun with lr = 0\.01, not 0\.5"):
        Toy(tmp_path, lr=0.5)
    with pytest.raises(Refusal, match="a run of toy, not of other"):
        Trainer(tmp_path, nn.Linear(1, 1), HOW, steps=1, stage="other", settings=Settings(tmp_path), save=print)


def test_a_moved_folder_goes_on(tmp_path: Path) -> None:
    undisturbed = Toy(tmp_path / "a").run()
    Toy(tmp_path / "b").run(3)
    (tmp_path / "b").rename(tmp_path / "c")
    assert same(Toy(tmp_path / "c").run(), undisturbed)


def test_data_that_changed_under_a_run_is_refused(tmp_path: Path) -> None:
    data = tmp_path / "data.jsonl"
    data.write_text("one")

    def trainer() -> Trainer:
        inputs, out = {"data": data}, tmp_path / "run"
        return Trainer(
            out, nn.Linear(1, 1), HOW, steps=1, stage="toy", settings=Settings(out), save=print, inputs=inputs
        )

    trainer()
    trainer()
    data.write_text("two")
    with pytest.raises(Refusal, match=r"data of .* is no longer the file"):
        trainer()


def test_another_number_of_threads_is_said(tmp_path: Path, said: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    Toy(tmp_path).run(3)
    monkeypatch.setattr(loop.runtime, "threads", lambda: 64)
    Toy(tmp_path)
    assert [line for line in said if "1 threads, now it is 64" in line and "not bit for bit" in line]


def test_two_at_once_are_refused(tmp_path: Path) -> None:
    held = Toy(tmp_path)
    with pytest.raises(Refusal, match="another process trains in"):
        Toy(tmp_path)
    held.run()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_person_who_stops_it_loses_nothing(tmp_path: Path, said: list[str], number: int) -> None:
    undisturbed = Toy(tmp_path / "a").run()
    toy = Toy(tmp_path / "b", replace(HOW, save_every=0))
    loss = toy.loss

    def interrupted(rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        if toy.calls == 4:
            os.kill(os.getpid(), number)
        return loss(rows)

    toy.loss = interrupted  # type: ignore[method-assign]  # the moment of the signal
    before = signal.getsignal(number)
    with pytest.raises(Stopped):
        toy.run()
    assert signal.getsignal(number) is before
    assert (tmp_path / "b" / "latest").read_text() == "step-5\n"
    assert "step 5 of 7" in said[-1]
    assert "Give the same command again" in said[-1]
    assert same(Toy(tmp_path / "b", replace(HOW, save_every=0)).run(), undisturbed)


def test_a_second_interrupt_stops_at_once(tmp_path: Path, said: list[str]) -> None:
    toy = Toy(tmp_path)

    def twice(rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        os.kill(os.getpid(), signal.SIGINT)
        os.kill(os.getpid(), signal.SIGINT)
        raise AssertionError("the second one came through")

    toy.loss = twice  # type: ignore[method-assign]  # the moment of the signal
    with pytest.raises(KeyboardInterrupt):
        toy.run()
    assert not (tmp_path / "latest").exists()


def test_a_unit_of_many_updates_is_one_step(tmp_path: Path) -> None:
    def go(out: Path, until: int) -> dict[str, Tensor]:
        toy = Toy(out, replace(HOW, save_every=1), steps=4)
        for iteration in toy.trainer.remaining():
            for update in range(3):
                found = toy.trainer.update(toy.loss, Toy.batch(iteration * 3 + update), 40.0)
                if iteration == until and update == 1:
                    return {}  # died in the middle of an iteration
            toy.trainer.advance({"reward": found["loss"]})
        return {name: weight.clone() for name, weight in toy.net.state_dict().items()}

    undisturbed = go(tmp_path / "a", -1)
    go(tmp_path / "b", 2)
    assert same(go(tmp_path / "b", -1), undisturbed)
    assert [line["step"] for line in metrics(tmp_path / "b")] == [1, 2, 3, 4]


def test_a_step_without_an_end_is_a_bug_that_shows(tmp_path: Path) -> None:
    toy = Toy(tmp_path)
    with pytest.raises(RuntimeError, match="without advance"):
        for _ in toy.trainer.remaining():
            pass


# -- bad numbers, bad disks --------------------------------------------------------------------


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
@pytest.mark.parametrize("where", ["loss", "gradient", "metric"])
def test_a_bad_number_stops_the_run_and_the_last_good_step_is_kept(tmp_path: Path, bad: float, where: str) -> None:
    undisturbed = Toy(tmp_path / "a").run(3)
    toy = Toy(tmp_path / "b")
    loss = toy.loss

    def broken(rows: Mapping[str, Tensor]) -> tuple[Tensor, dict[str, Tensor]]:
        summed, found = loss(rows)
        if toy.calls == 4:
            if where == "loss":
                return summed * bad, found
            if where == "metric":
                return summed, {"right": torch.tensor(bad)}
            summed = summed + Poison.apply(toy.net[1].weight, bad)
        return summed, found

    toy.loss = broken  # type: ignore[method-assign]  # the bad number
    with pytest.raises(Diverged, match=r"toy: \w+ is (nan|inf) in step 4; .*step-3 is kept"):
        toy.run()
    assert same(load_file(toy.trainer.folder / "model.safetensors"), undisturbed)
    assert [line["step"] for line in metrics(tmp_path / "b")] == [1, 2, 3]


class Poison(torch.autograd.Function):
    """0 forward, a bad number backward: the loss looks well and the gradient is not."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, bad: float) -> Tensor:
        ctx.shape, ctx.bad = weight.shape, bad
        return weight.new_zeros(())

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return torch.full(ctx.shape, ctx.bad), None


def go_on_with_files_limited_to(size: int, run: Path) -> str:
    """What a process says whose files may not grow beyond ``size`` bytes, as on a disk that is full."""
    program = f"""
import resource, sys
sys.path.insert(0, {str(Path(__file__).parent)!r})
from pathlib import Path
from test_loop import Toy
from palmier.errors import Refusal
toy = Toy(Path({str(run)!r}))
resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, resource.RLIM_INFINITY))
try:
    toy.run()
except Refusal as refusal:
    print(refusal)
"""
    return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout.strip()


def test_a_disk_that_is_full_in_the_middle_of_a_save(tmp_path: Path) -> None:
    run = tmp_path / "run"
    Toy(run).run(3)
    line = go_on_with_files_limited_to(2000, run)
    assert "\n" not in line
    assert f"could not write {run / 'step-4'}" in line
    assert "what was there before is untouched" in line
    assert (run / "latest").read_text() == "step-2\n"
    assert not list(run.glob(".partial-*"))
    assert same(Toy(run).run(), Toy(tmp_path / "undisturbed").run())


def test_a_disk_that_is_full_in_the_middle_of_a_line(tmp_path: Path) -> None:
    run = tmp_path / "run"
    Toy(run).run(3)
    line = go_on_with_files_limited_to((run / "metrics.jsonl").stat().st_size - 10, run)
    assert line == f"could not write {run / 'metrics.jsonl'}: File too large; the last saved step is untouched"
    assert same(Toy(run).run(), Toy(tmp_path / "undisturbed").run())
    assert metrics(run) == metrics(tmp_path / "undisturbed")


def test_a_damaged_optimizer_is_refused_by_name(tmp_path: Path) -> None:
    Toy(tmp_path).run(3)
    path = tmp_path / "step-2" / "trainer" / "optimizer.safetensors"
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(Refusal, match=r"optimizer\.safetensors is damaged"):
        Toy(tmp_path)


def test_no_steps_are_no_run(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match="0 steps are no run"):
        Toy(tmp_path, steps=0)
