"""Pre-training on the tiny world: it learns, every setting acts, and what cannot work is refused."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from palmier.data.batches import TokenBatches
from palmier.data.documents import Document
from palmier.data.shards import prepare
from palmier.data.tokenizer import Tokenizer, train
from palmier.errors import Refusal
from palmier.model.checkpoint import load
from palmier.scale.runtime import has_compiler
from palmier.train import pretrain
from palmier.train.pretrain import Settings


@pytest.fixture
def base(tiny_world: Any, tmp_path: Path) -> Settings:
    return Settings(
        out=tmp_path / "base", data=tiny_world.shards, tokenizer=tiny_world.tokenizer, layers=2, hidden_size=32,
        heads=2, length=32, batch=4, steps=8, warmup=2, validate_every=4, save_every=4, precision="fp32",
    )  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def outcome(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All that a person could see of a run: weights, metrics, folders, and how many pieces were computed."""
    pieces: Counter[int] = Counter()
    compute = pretrain.Objective.__call__

    def counted(self: pretrain.Objective, rows: dict[str, Tensor]) -> Any:
        pieces[len(rows["tokens"])] += 1
        return compute(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(pretrain.Objective, "__call__", counted)
        folder = pretrain.run(settings)
    return {
        "weights": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": metrics(settings.out),
        "folders": sorted(path.name for path in settings.out.glob("step-*")),
        "pieces": pieces,
        "compiled": json.loads((settings.out / "run.json").read_text())["compiled"],
    }


CHANGES: dict[str, dict[str, Any]] = {
    "layers": {"layers": 1},
    "hidden_size": {"hidden_size": 64},
    "heads": {"heads": 1},
    "length": {"length": 16},
    "batch": {"batch": 2},
    "micro_batch": {"micro_batch": 1},
    "steps": {"steps": 9},
    "lr": {"lr": 1e-3},
    "embedding_lr": {"embedding_lr": 1.0},
    "warmup": {"warmup": 3},
    "decay": {"decay": 1.0},
    "weight_decay": {"weight_decay": 0.0},
    "clip": {"clip": 0.01},
    "z_loss": {"z_loss": 0.1},
    "validate_every": {"validate_every": 3},
    "save_every": {"save_every": 3},
    "seed": {"seed": 1},
    "precision": {"precision": "bf16"},
    "compile": {"compile": "yes"},
}
ELSEWHERE = {"out", "data", "tokenizer", "model"}
"""Fields with a test of their own below."""


def test_no_setting_is_left_out_here() -> None:
    assert set(CHANGES) | ELSEWHERE == {field.name for field in fields(Settings)}
    assert len(fields(Settings)) <= 25


SLOW = {"compile"}
"""Minutes on a machine that is slow to build code: in the long suite."""


@pytest.mark.parametrize("key", [pytest.param(key, marks=[pytest.mark.long] * (key in SLOW)) for key in CHANGES])
def test_each_setting_changes_something(base: Settings, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if key == "compile" and not has_compiler():
        pytest.skip("no C++ compiler here")
    one = outcome(base, monkeypatch)
    other = outcome(replace(base, out=base.out / "other", **CHANGES[key]), monkeypatch)
    assert one != other
    way = {"micro_batch": "pieces", "compile": "compiled"}.get(key)
    if way is not None:  # the same result, come by differently
        assert one[way] != other[way]
        for left, right in zip(one["metrics"], other["metrics"], strict=True):
            assert left == pytest.approx(right, rel=1e-4)


def test_the_same_settings_give_the_same_bits(base: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    assert outcome(base, monkeypatch) == outcome(replace(base, out=base.out / "again"), monkeypatch)


def test_the_seed_draws_both_the_first_weights_and_the_order(base: Settings) -> None:
    first, second = (replace(base, seed=seed) for seed in (0, 1))
    left, right = (pretrain.parts(settings)[0].model.embed_tokens.weight for settings in (first, second))
    assert not torch.equal(left, right)
    tokenizer = Tokenizer.load(base.tokenizer or Path())
    rows = [pretrain.batches(settings, tokenizer)[0].batch(0)["tokens"] for settings in (first, second)]
    assert not torch.equal(*rows)


def test_it_learns_and_the_folder_is_whole(base: Settings) -> None:
    settings = replace(base, steps=80, lr=1e-2, validate_every=40)
    folder = pretrain.run(settings)
    lines = metrics(settings.out)
    assert folder == settings.out / "step-80"
    assert lines[-1]["cross_entropy"] < 0.6 * lines[0]["cross_entropy"]
    assert [line["step"] for line in lines if "validation_loss" in line] == [40, 80]
    assert lines[-1]["validation_loss"] < 0.6 * lines[0]["cross_entropy"]
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= {
        path.name for path in folder.iterdir()
    }
    assert Tokenizer.load(folder).size == load(folder).config.vocab_size
    assert pretrain.run(settings) == folder  # finished: nothing is done again


def test_what_is_saved_is_exact_where_the_computation_is_rounded(base: Settings) -> None:
    weight = load(pretrain.run(replace(base, precision="bf16"))).model.layers[0].mlp.gate_proj.weight
    assert weight.dtype == torch.float32
    assert not torch.equal(weight, weight.bfloat16().float())


def test_the_loss_is_cross_entropy_and_z_loss_by_hand(base: Settings, tiny_world: Any) -> None:
    decoder, _ = pretrain.parts(base)
    rows = TokenBatches(base.data, "train", 4, 32, 0).batch(0)
    summed, found = pretrain.Objective(decoder, 0.1)(rows)
    logits = decoder.logits(decoder(rows["tokens"])).double()
    nll = F.cross_entropy(logits.flatten(0, 1), rows["targets"].flatten(), reduction="sum")
    z = logits.logsumexp(-1).square().sum()
    assert float(found["cross_entropy"]) == pytest.approx(float(nll.detach()), rel=1e-5)
    assert float(found["log_z_squared"]) == pytest.approx(float(z.detach()), rel=1e-5)
    assert float(summed.detach()) == pytest.approx(float((nll + 0.1 * z).detach()), rel=1e-5)
    assert pretrain.tokens_of(rows) == 4 * 32


def test_the_z_loss_keeps_log_z_down(base: Settings) -> None:
    runs = [replace(base, out=base.out / str(z), z_loss=z, steps=40, lr=1e-2) for z in (0.0, 1.0)]
    for settings in runs:
        pretrain.run(settings)
    without, with_it = (metrics(settings.out)[-1]["log_z_squared"] for settings in runs)
    assert with_it < 0.2 * without


def test_validation_is_by_hand_the_mean_over_held_out_tokens(base: Settings) -> None:
    decoder, _ = pretrain.parts(base)
    held_out = TokenBatches(base.data, "validation", 4, 32, 0)
    total, count = 0.0, 0
    with torch.no_grad():
        for index in range(min(pretrain.VALIDATION_BATCHES, held_out.steps_per_epoch)):
            rows = held_out.batch(index)
            logits = decoder.logits(decoder(rows["tokens"]))
            total += float(F.cross_entropy(logits.flatten(0, 1), rows["targets"].flatten(), reduction="sum"))
            count += rows["targets"].numel()
    assert pretrain.validation_loss(decoder, held_out) == pytest.approx(total / count, rel=1e-5)


def test_the_learning_rate_rises_stays_and_falls(base: Settings) -> None:
    pretrain.run(replace(base, steps=10, warmup=2, decay=0.4, lr=1.0e-3))
    rates = [line["lr"] for line in metrics(base.out)]
    assert rates == pytest.approx([1e-3 * x for x in (1 / 3, 2 / 3, 1, 1, 1, 1, 1, 0.75, 0.5, 0.25)])


@pytest.mark.parametrize(
    ("steps", "warmup"),
    [(1, 0), (5, 0), (9, 0), (10, 1), (60, 6), (100, 10), (599, 59), (600, 60), (1500, 60), (9000, 60)],
)
def test_the_rise_that_is_not_given_fits_the_run(base: Settings, steps: int, warmup: int) -> None:
    settings = replace(base, steps=steps, warmup=None)
    settings.check()
    assert settings.optimization().warmup == warmup
    given = replace(base, steps=2000, warmup=3)
    assert given.optimization().warmup == 3, "what is given holds"


def test_a_short_run_reaches_the_full_rate_and_says_how_soon(base: Settings) -> None:
    pretrain.run(replace(base, steps=5, warmup=None, lr=1e-3))
    assert max(line["lr"] for line in metrics(base.out)) == 1e-3
    assert json.loads((base.out / "run.json").read_text())["settings"]["warmup"] == 0
    assert pretrain.run(replace(base, steps=5, warmup=0, lr=1e-3)) == base.out / "step-5", "the same run"


def test_a_model_goes_on_from_where_it_is(base: Settings, tiny_world: Any) -> None:
    settings = replace(base, steps=40, lr=1e-2)
    pretrain.run(settings)
    onwards = Settings(
        out=base.out / "onwards", data=base.data, model=str(base.out), length=32, batch=4, steps=4, warmup=1,
        precision="fp32",
    )  # fmt: skip
    pretrain.run(onwards)
    assert metrics(onwards.out)[0]["cross_entropy"] < 0.8 * metrics(base.out)[0]["cross_entropy"]


def test_other_data_gives_other_weights(base: Settings, tiny_world: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    tokenizer = Tokenizer.load(tiny_world.tokenizer)
    documents = [Document(f"Nobody met {i} of them.", str(i)) for i in range(200)]
    prepare(documents, tokenizer, base.out / "shards", validation=0.2, seed=0)
    other = outcome(replace(base, out=base.out / "other", data=base.out / "shards"), monkeypatch)
    assert outcome(base, monkeypatch)["weights"] != other["weights"]


def test_shards_of_another_tokenizer_are_refused(base: Settings) -> None:
    documents = [Document(f"Nothing here is {i} alike.", str(i)) for i in range(50)]
    train(documents, 290).save(base.out / "tokenizer")
    with pytest.raises(Refusal, match="another tokenizer"):
        pretrain.run(replace(base, out=base.out / "run", tokenizer=base.out / "tokenizer"))


def test_held_out_text_that_is_too_short_is_said(base: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(pretrain, "say", said.append)
    tokenizer = Tokenizer.load(base.tokenizer or Path())
    documents = [Document(f"Nobody met {i} of them.", str(i)) for i in range(50)]
    prepare(documents, tokenizer, base.out / "shards", validation=0.0, seed=0)
    pretrain.run(replace(base, out=base.out / "run", data=base.out / "shards"))
    assert len(said) == 1
    assert said[0].startswith("pretrain: no validation loss")
    assert not any("validation_loss" in line for line in metrics(base.out / "run"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"model": "x"}, "tokenizer is the model's own"),
        ({"model": "x", "tokenizer": None}, "layers is the model's own"),
        ({"tokenizer": None}, "needs --tokenizer"),
        ({"warmup": 8}, "leaves nothing of 8 steps"),
        ({"steps": 0}, "steps 0"),
        ({"batch": 0}, "batch 0"),
        ({"length": 0}, "length 0"),
        ({"lr": -1.0}, "lr"),
        ({"z_loss": -1.0}, "z_loss"),
        ({"validate_every": -1}, "validate_every"),
        ({"heads": 3}, "multiple of num_heads 3"),
        ({"data": Path("nowhere")}, "nowhere"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(base: Settings, change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        pretrain.run(replace(base, **change))


def test_rows_longer_than_the_model_are_refused(base: Settings, tiny_world: Any) -> None:
    settings = Settings(out=base.out, data=base.data, model=str(tiny_world.model), length=65, steps=4, warmup=1)
    with pytest.raises(Refusal, match=r"65 is more than .* can hold: 64"):
        pretrain.run(settings)
