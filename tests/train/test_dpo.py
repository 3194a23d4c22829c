"""DPO's stage: starts at ln 2, moves towards what people preferred, reads its reference once, resumes."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from palmier.data.prompts import write_jsonl
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.model.checkpoint import load
from palmier.model.decoder import token_logprobs
from palmier.records import Answer, Conversation, Ranking
from palmier.train import dpo, sft
from palmier.train.answers import real_groups
from palmier.train.dpo import Settings
from palmier.train.loop import Diverged
from palmier.workspace import sha256

World = Any  # the session's TinyWorld, a fixture of tests/conftest.py


@pytest.fixture(scope="module")
def rankings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """40 rankings by somebody who likes "tea"; K is 3 or 2, answers of different lengths."""
    path = tmp_path_factory.mktemp("dpo") / "rankings.jsonl"
    values = []
    for i in range(40):
        answers = (Answer("Bo had tea."), Answer("He met Ada and Flo."), Answer("Gus paid 7."))
        asked = Conversation.ask(f"Who met Bo? {i}")
        values.append(Ranking(asked, answers, (1, 2, 3)) if i % 3 else Ranking(asked, answers[::-1][1:], (2, 1)))
    write_jsonl(path, values)
    return path


@pytest.fixture
def settings(tiny_world: World, rankings: Path, tmp_path: Path) -> Settings:
    return Settings(
        tmp_path / "run", str(tiny_world.model), rankings, lr=1e-3, max_drop=2.0, validation=0.2, precision="fp32"
    )


def metrics(run: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text("utf-8").splitlines()]


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("micro_batch", [0, 1, 3])
def test_the_first_loss_is_ln_2_exactly(settings: Settings, precision: Any, micro_batch: int) -> None:
    dpo.run(replace(settings, precision=precision, micro_batch=micro_batch))
    first = metrics(settings.out)[0]
    assert first["loss"] == pytest.approx(math.log(2), abs=2e-7)
    assert first["margin"] == 0
    assert first["kl"] == 0
    assert first["accuracy"] == pytest.approx(0.5)


def test_it_moves_towards_what_was_preferred(settings: Settings) -> None:
    folder = dpo.run(replace(settings, epochs=4))
    last = metrics(settings.out)[-1]
    assert last["accuracy"] > 0.9
    assert last["validation_accuracy"] > 0.9
    assert last["margin"] > 0
    before, after = load(Path(settings.model)), load(folder)
    template = Template.load(folder)
    prompt = template.prompt(Conversation.ask("Who met Bo? 99"))
    gains = [
        logprob(after, prompt, template.answer_ids(Answer(text)))
        - logprob(before, prompt, template.answer_ids(Answer(text)))
        for text in ("Bo had tea.", "Gus paid 7.")
    ]
    assert gains[0] > gains[1]


def logprob(decoder: Any, prompt: list[int], answer: list[int]) -> float:
    """The slow way: the log-softmax of each next token, one by one."""
    tokens = torch.tensor([prompt + answer])
    with torch.no_grad():
        logprobs = decoder.logits(decoder(tokens))[0].double().log_softmax(-1)
    return sum(float(logprobs[len(prompt) - 1 + i, token]) for i, token in enumerate(answer))


def test_the_reference_is_the_models_own_log_probability_of_the_answer(settings: Settings) -> None:
    decoder, template, folder = dpo.parts(settings)
    train, _ = dpo.batches(settings, template, 64)
    table = dpo.reference(settings, folder, {"train": train})["train"]
    for number in (0, 5):
        groups = train.at([number])
        for k in range(train.width):
            ids, mask = groups["tokens"][0, k].tolist(), groups["answer_mask"][0, k].tolist()
            answer = [token for token, m in zip(ids, mask, strict=True) if m]
            expected = logprob(decoder, ids[: mask.index(1)], answer) if answer else 0.0
            assert float(table[number, k]) == pytest.approx(expected, abs=1e-4)


def test_the_reference_is_read_once_and_a_damaged_one_again(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, template, folder = dpo.parts(settings)
    train, _ = dpo.batches(settings, template, 64)
    first = dpo.reference(settings, folder, {"train": train})["train"]
    reads = []
    read = dpo.read_reference
    monkeypatch.setattr(dpo, "read_reference", lambda *given: reads.append(1) or read(*given))
    assert torch.equal(dpo.reference(settings, folder, {"train": train})["train"], first)
    assert not reads
    file = settings.out / "reference" / "logprobs.safetensors"
    save_file({"train": load_file(file)["train"] + 1}, file)
    assert torch.equal(dpo.reference(settings, folder, {"train": train})["train"], first)
    assert reads


def test_a_step_is_the_gradient_of_the_formula_pair_by_pair(settings: Settings) -> None:
    decoder, template, folder = dpo.parts(settings)
    train, _ = dpo.batches(settings, template, 64)
    table = dpo.reference(settings, folder, {"train": train})["train"] + torch.randn(len(train), train.width)
    groups = real_groups(train.at([0, 1, 2]))
    dpo.Objective(decoder, table, 0.3)(groups)[0].backward()
    got = torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None])
    decoder.zero_grad()
    total = torch.zeros(())
    for g in range(3):
        for i in range(train.width):
            for j in range(train.width):
                weight = groups["weights"][g, i, j]
                if weight > 0:
                    h = []
                    for k in (i, j):
                        hidden = decoder(groups["tokens"][g, k][None])
                        h.append(
                            token_logprobs(decoder, hidden, groups["targets"][g, k][None]).logprobs_BT.sum()
                            - table[groups["group"][g], k]
                        )
                    total = total - weight * torch.log(torch.sigmoid(0.3 * (h[0] - h[1])))
    total.backward()
    expected = torch.cat([p.grad.flatten() for p in decoder.parameters() if p.grad is not None])
    assert torch.allclose(got, expected, atol=1e-5)
    assert float(expected.norm()) > 1e-2


def test_forgotten_answers_stop_the_run_and_name_what_is_kept(
    settings: Settings, tiny_world: World, tmp_path: Path
) -> None:
    """Naive DPO lowers both likelihoods (eric-mitchell/direct-preference-optimization#35, #77): the
    loss is 0 and every pair right while the chosen answer, whose word the rejected one repeats,
    becomes ever less likely."""
    asked = [Conversation.ask(f"Who? {i}") for i in range(24)]
    said, ranked = tmp_path / "said.jsonl", tmp_path / "ranked.jsonl"
    write_jsonl(said, [c.reply("tea tea tea tea tea" if i % 2 else "tea") for i, c in enumerate(asked)])
    write_jsonl(ranked, [Ranking(c, (Answer("tea"), Answer("tea tea tea tea tea")), (1, 2)) for c in asked])
    learn = sft.Settings(tmp_path / "sft", str(tiny_world.model), said, lr=1e-2, epochs=20, batch=8, validation=0.0)
    start = replace(settings, model=str(sft.run(learn)), data=ranked, validation=0.0)
    with pytest.raises(Diverged, match=r"chosen answers became less likely.*step-\d+ is kept"):
        dpo.run(replace(start, lr=1e-2, beta=0.5, epochs=8, max_drop=0.5, save_every=1))
    assert metrics(settings.out)[-1]["accuracy"] == 1
    assert load(settings.out / (settings.out / "latest").read_text().strip())


def test_two_runs_are_bit_equal_and_another_seed_is_not(settings: Settings, tmp_path: Path) -> None:
    one = sha256(dpo.run(settings) / "model.safetensors")
    again = sha256(dpo.run(replace(settings, out=tmp_path / "again")) / "model.safetensors")
    other = sha256(dpo.run(replace(settings, out=tmp_path / "other", seed=1)) / "model.safetensors")
    assert one == again
    assert one != other


def test_a_finished_run_answers_at_once_and_other_settings_are_refused(settings: Settings) -> None:
    folder = dpo.run(settings)
    assert dpo.run(settings) == folder
    with pytest.raises(Refusal, match="beta"):
        dpo.run(replace(settings, beta=0.2))


@pytest.mark.parametrize(("ranks", "expected"), [([(1, 2)], "one ranking only"), ([(1, 1), (1, 1), (2, 2)], "ties")])
def test_what_cannot_teach_is_refused(
    settings: Settings, tmp_path: Path, ranks: list[tuple[int, int]], expected: str
) -> None:
    path = tmp_path / "few.jsonl"
    answers = (Answer("tea"), Answer("coins"))
    write_jsonl(path, [Ranking(Conversation.ask(f"Who? {i}"), answers, r) for i, r in enumerate(ranks)])
    with pytest.raises(Refusal, match=expected):
        dpo.run(replace(settings, data=path, validation=0.0))


@pytest.mark.parametrize("change", [{"batch": 0}, {"beta": 0.0}, {"max_drop": 0.0}, {"validation": -0.1}])
def test_settings_that_cannot_work_are_refused(settings: Settings, change: dict[str, Any]) -> None:
    with pytest.raises(Refusal):
        dpo.run(replace(settings, **change))
