"""Supervised fine-tuning: the assistant's words alone are learned, packed or not, and every setting acts."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from palmier.data.batches import SFTBatches
from palmier.data.prompts import read_conversations, write_jsonl
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.model.checkpoint import load
from palmier.records import Conversation
from palmier.train import sft
from palmier.train.sft import Settings


@pytest.fixture
def base(tiny_world: Any, tmp_path: Path) -> Settings:
    return Settings(
        out=tmp_path / "base", model=str(tiny_world.model), data=tiny_world.conversations, batch=4, lr=1e-3,
        warmup=0.2, validation=0.2, save_every=2, precision="fp32",
    )  # fmt: skip


def metrics(run: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [{key: value for key, value in line.items() if key != "timing"} for line in lines]


def outcome(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """All that a person could see of a run, and the rows that were computed at once."""
    pieces: list[int] = []
    compute = sft.Objective.__call__

    def counted(self: sft.Objective, rows: dict[str, Tensor]) -> Any:
        pieces.append(len(rows["tokens"]))
        return compute(self, rows)

    with monkeypatch.context() as patch:
        patch.setattr(sft.Objective, "__call__", counted)
        folder = sft.run(settings)
    return {
        "weights": hashlib.sha256((folder / "model.safetensors").read_bytes()).hexdigest(),
        "metrics": metrics(settings.out),
        "folders": sorted(path.name for path in settings.out.glob("step-*")),
        "pieces": pieces,
    }


CHANGES: dict[str, dict[str, Any]] = {
    "validation": {"validation": 0.4},
    "length": {"length": 32},
    "packed": {"packed": False},
    "batch": {"batch": 2},
    "micro_batch": {"micro_batch": 1},
    "epochs": {"epochs": 3},
    "lr": {"lr": 2e-3},
    "embedding_lr": {"embedding_lr": 0.1},
    "warmup": {"warmup": 0.6},
    "weight_decay": {"weight_decay": 0.5},
    "clip": {"clip": 0.01},
    "validate_every": {"validate_every": 1},
    "save_every": {"save_every": 3},
    "seed": {"seed": 1},
    "precision": {"precision": "bf16"},
}
ELSEWHERE = {"out", "model", "data", "compile"}
"""Fields with a test of their own; compile is the loop's, tested there and in pre-training."""


def test_no_setting_is_left_out_here() -> None:
    assert set(CHANGES) | ELSEWHERE == {field.name for field in fields(Settings)}
    assert len(fields(Settings)) <= 25


@pytest.mark.parametrize("key", CHANGES)
def test_each_setting_changes_something(base: Settings, key: str, monkeypatch: pytest.MonkeyPatch) -> None:
    one = outcome(base, monkeypatch)
    other = outcome(replace(base, out=base.out / "other", **CHANGES[key]), monkeypatch)
    assert one != other
    if key == "micro_batch":
        for left, right in zip(one["metrics"], other["metrics"], strict=True):
            assert left == pytest.approx(right, rel=1e-4)


def test_it_learns_to_answer_and_the_folder_is_whole(base: Settings) -> None:
    settings = replace(base, lr=1e-2, epochs=15, validate_every=0)
    folder = sft.run(settings)
    lines = metrics(settings.out)
    assert lines[-1]["loss"] < 0.3 * lines[0]["loss"]
    validated = [line["step"] for line in lines if "validation_loss" in line]
    assert len(validated) == 15
    assert validated[-1] == lines[-1]["step"]
    assert lines[-1]["validation_loss"] < 0.6 * lines[0]["loss"]
    assert Template.load(folder).stop_ids == Template.load(Path(base.model)).stop_ids
    assert sft.run(settings) == folder


def test_the_loss_is_by_hand_that_of_the_assistants_tokens_and_their_end(base: Settings) -> None:
    decoder, template, _ = sft.parts(base)
    conversations = read_conversations(base.data)
    packed = SFTBatches(conversations, template, 100, 64, 0)
    found = float(sft.Objective(decoder)(packed.batch(0))[0].detach())
    expected, count = 0.0, 0
    with torch.no_grad():
        for conversation in conversations:
            rendered = template.render(conversation)
            logits = decoder.logits(decoder(torch.tensor([rendered.ids])))[0]
            for at in range(1, len(rendered.ids)):
                if rendered.mask[at]:
                    expected += float(F.cross_entropy(logits[at - 1], torch.tensor(rendered.ids[at])))
                    count += 1
    assert found == pytest.approx(expected, rel=1e-5)
    assert sft.tokens_of(packed.batch(0)) == count
    assert count == sum(len(template.tokenizer.encode(c.messages[-1].content)) + 1 for c in conversations)


def test_packed_rows_give_the_gradient_of_rows_of_their_own(base: Settings) -> None:
    gradients = []
    for packed in (True, False):
        decoder, template, _ = sft.parts(base)
        rows = SFTBatches(read_conversations(base.data), template, 24, 64, 0, packed=packed).batch(0)
        sft.Objective(decoder)(rows)[0].backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        gradients.append({name: w.grad for name, w in decoder.named_parameters()})
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradient, gradients[1][name], atol=1e-5, rtol=1e-4)


def test_a_prompts_answers_all_fall_on_one_side(base: Settings) -> None:
    _, template, _ = sft.parts(base)
    train, held_out = sft.batches(base, template, 64)
    assert held_out is not None
    assert len(train) + len(held_out) == 24
    assert len(held_out) % 2 == 0  # each prompt of the tiny world has two answers


def test_more_data_and_another_model_change_the_result(
    base: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = outcome(base, monkeypatch)
    write_jsonl(tmp_path / "more.jsonl", [Conversation.ask(f"{i}?").reply(f"{i}!") for i in range(20)])
    assert outcome(replace(base, out=tmp_path / "b", data=tmp_path / "more.jsonl"), monkeypatch) != one
    assert outcome(replace(base, out=tmp_path / "c", model=str(base.out)), monkeypatch) != one
    saved = load(base.out / (base.out / "latest").read_text().strip())
    assert saved.model.norm.weight.dtype == torch.float32


def test_conversations_too_long_are_said_and_left_out(base: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sft, "say", said.append)
    path = base.out.parent / "long.jsonl"
    write_jsonl(path, [*read_conversations(base.data), Conversation.ask("So?").reply("so " * 90)])
    sft.run(replace(base, data=path))
    assert "sft: 1 conversations are longer than 64 tokens and are left out" in said


def test_a_held_out_share_that_is_empty_is_said(base: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    said: list[str] = []
    monkeypatch.setattr(sft, "say", said.append)
    sft.run(replace(base, validation=1e-9))
    assert len(said) == 1
    assert said[0].startswith("sft: no validation loss")
    assert not any("validation_loss" in line for line in metrics(base.out))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"batch": 0}, "batch 0"),
        ({"epochs": 0}, "epochs 0"),
        ({"length": 0}, "length 0"),
        ({"length": 65}, "65 is more than the model can hold: 64"),
        ({"validation": 1.0}, r"validation 1\.0"),
        ({"validation": 0.0, "validate_every": 3}, "needs a validation share"),
        ({"warmup": 1.0}, "warmup"),
        ({"lr": 0.0}, "lr"),
        ({"model": "nothing"}, "nothing is no model"),
        ({"data": Path("nowhere.jsonl")}, r"nowhere\.jsonl"),
    ],
)
def test_what_cannot_work_is_refused_with_the_reason(base: Settings, change: dict[str, Any], words: str) -> None:
    with pytest.raises(Refusal, match=words):
        sft.run(replace(base, **change))


def test_a_bad_line_is_named(base: Settings) -> None:
    path = base.out.parent / "bad.jsonl"
    write_jsonl(path, [*read_conversations(base.data), Conversation.ask("So?")])
    with pytest.raises(Refusal, match=r"bad\.jsonl: conversation 25 has no assistant's message"):
        sft.run(replace(base, data=path))
    path.write_text(base.data.read_text().splitlines()[0] + '\n{"messages": [{"role": "user"}]}\n')
    with pytest.raises(Refusal, match=r"bad\.jsonl:2"):
        sft.run(replace(base, data=path))
