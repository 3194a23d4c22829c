"""Answers come from weights that the trainer has left behind, or from keys and values of such.

Sources: verl#7495 (two months lost), #7339; ms-swift#8275; trl#3466.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.generate.engine import Engine
from palmier.generate.fingerprint import fingerprint
from palmier.generate.requests import Request
from palmier.model.checkpoint import load
from palmier.model.decoder import Decoder
from palmier.records import Sampling
from palmier.train import ppo
from palmier.train.loop import Diverged

World = Any


def settings_of(world: World, tmp_path: Path) -> ppo.Settings:
    (tmp_path / "taste.py").write_text("def odd(c, a):\n    return sum(t % 8 == 3 for t in a.tokens)\n", "utf-8")
    reward = f"{tmp_path}/taste.py:odd"
    small = {"episodes": 12, "minibatch": 12, "micro_batch": 6, "max_tokens": 8, "iterations": 2, "warmup": 0}
    return ppo.Settings(tmp_path / "run", str(world.model), reward, world.prompts, lr=1e-3, save_every=1, **small)


def test_after_every_hand_over_engine_and_trainer_have_the_same_weights(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []
    answer = ppo.answer

    def watching(settings: Any, found: Any, engine: Engine, iteration: int) -> Any:
        assert engine.checksum() == fingerprint(found.policy)
        assert engine.decoder is found.policy
        seen.append((engine.weights_version, engine.checksum()))
        return answer(settings, found, engine, iteration)

    monkeypatch.setattr(ppo, "answer", watching)
    ppo.run(settings_of(tiny_world, tmp_path))
    versions, checksums = zip(*seen, strict=True)
    assert list(versions) == sorted(set(versions))
    assert len(set(checksums)) == 3


def test_a_skipped_hand_over_stops_the_run_within_a_step(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Engine, "weights_changed", lambda self: None)
    with pytest.raises((Diverged, RuntimeError), match="weights"):
        ppo.run(settings_of(tiny_world, tmp_path))
    assert not list((tmp_path / "run").glob("step-*"))


def test_other_weights_in_the_engine_stop_the_run(
    tiny_world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The engine answers from a copy of the start, which nobody brings up to date."""
    settings = settings_of(tiny_world, tmp_path)
    made = ppo.engine_for

    def copied(policy: Decoder, *given: Any, **named: Any) -> Engine:
        copy = load(Path(settings.model), policy.output_weight.dtype)
        return made(copy, *given, **named)

    monkeypatch.setattr(ppo, "engine_for", copied)
    with pytest.raises(Diverged, match="other weights"):
        ppo.run(settings)
    assert not list((tmp_path / "run").glob("step-*"))


@torch.no_grad()
def test_keys_and_values_of_old_weights_are_dropped(tiny_world: World) -> None:
    """Weights move in the middle of an answer: from then on every log-prob is the new weights' own."""
    decoder = load(tiny_world.model, torch.float32)
    engine = Engine(decoder, slots=2)
    for name, seed in (("a", 1), ("b", 2)):
        engine.add(Request(name, (1, 87, 85, 71), Sampling(max_tokens=12, seed=seed)))
    before = [event for _ in range(5) for event in engine.step()]
    for parameter in decoder.parameters():
        parameter.mul_(0.5).add_(0.05)
    engine.weights_changed()
    after = []
    while engine.busy:
        after += engine.step()
    for name in ("a", "b"):
        said = [event for event in before + after if event.id == name]
        tokens = [1, 87, 85, 71, *(event.token for event in said)]
        logprobs = decoder.logits(decoder(torch.tensor([tokens])))[0].log_softmax(-1)
        late = [event for event in after if event.id == name]
        assert len(late) >= 6
        for place, event in enumerate(said):
            if event in late:
                assert event.logprob == pytest.approx(float(logprobs[3 + place, tokens[4 + place]]), abs=1e-4)
