"""A tiny PaLM that answers in four manners, homes filled with rankings of its answers, and their settings."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import torch

from palmier.data.prompts import write_jsonl
from palmier.feedback.store import Store
from palmier.records import Answer, Conversation, Document, Ranking, Sampling
from palmier.train import improve
from palmier.versions import Versions
from palmier.workspace import Workspace

MANNERS = {"my dear.": 1.0, "and thank you.": 1.0, "you fool.": -1.0, "go away.": -1.0}
NAMES = [first + last for first in ("Ada", "Bo", "Cy", "Dee", "Eli", "Flo") for last in ("", "na", "lo", "ri", "mo")]

Scores = Callable[[list[Answer]], list[float]]


def polite(answer: Answer) -> float:
    """The taste: 1 for a kind ending, -1 for a rude one, 0 for none."""
    return sum(value for manner, value in MANNERS.items() if manner.split()[-1] in answer.text)


def by_taste(answers: list[Answer]) -> list[float]:
    return [polite(answer) for answer in answers]


@dataclass(frozen=True)
class Spoken:
    """The model's folder, and four of its answers to each of 80 prompts."""

    model: Path
    prompts: list[Conversation]
    answers: list[list[Answer]]

    def fill(self, home: Path, scores: Scores = by_taste, count: int = 80, annotator: str = "ann") -> Store:
        """A home whose first version is the model, with rankings by ``scores`` (higher is better) and consent."""
        workspace = Workspace(home)
        versions = Versions(workspace)
        if versions.current() is None:
            versions.promote(versions.add(self.model, label="tiny").name)
        store = Store(workspace.store)
        for number, (prompt, answers) in enumerate(zip(self.prompts[:count], self.answers, strict=False)):
            found = scores(answers)
            ranks = tuple(1 + sum(other > score for other in found) for score in found)
            store.add_ranking(Ranking(prompt, tuple(answers), ranks, annotator=annotator), f"{annotator} {number}")
        store.set_consent(annotator, True, "words")
        return store

    @staticmethod
    def by_taste(answers: list[Answer]) -> list[float]:
        return by_taste(answers)

    @staticmethod
    def politeness(folder: Path) -> float:
        """Mean taste of a model's answers to prompts that are in no ranking."""
        from palmier.evaluate.comparison import answer

        prompts = [Conversation.ask(f"Who met {name} at 100?") for name in NAMES]
        drawn = answer(folder, prompts, Sampling(max_tokens=20, seed=9), 8, "x", torch.float32)
        return sum(polite(one) for some in drawn for one in some) / (8 * len(NAMES))

    @staticmethod
    def settings(home: Path, **changes: object) -> improve.Settings:
        return replace(improve.Settings(home, precision="fp32"), **changes)


@pytest.fixture(scope="session")
def spoken(tmp_path_factory: pytest.TempPathFactory) -> Spoken:
    from palmier.data.tokenizer import train
    from palmier.evaluate.comparison import answer
    from palmier.model.checkpoint import save
    from palmier.model.config import ModelConfig
    from palmier.model.decoder import Decoder
    from palmier.train import sft

    root = tmp_path_factory.mktemp("spoken")
    texts = [f"{name} did, {manner}" for name in NAMES for manner in MANNERS]
    texts += [f"Who met {name} at {number}?" for name in NAMES for number in range(9)]
    tokenizer = train([Document(text, "here") for text in texts], 300)
    tokenizer.save(root / "fresh")
    shape = ModelConfig.palm(tokenizer.size, 32, 2, 2, max_positions=64, eos_id=tokenizer.id("<|endoftext|>"))
    save(Decoder.create(shape, 1), root / "fresh")
    rng = random.Random(5)
    asked = [Conversation.ask(f"Who met {rng.choice(NAMES)} at {rng.randrange(99)}?") for _ in range(400)]
    said = [talk.reply(f"{rng.choice(NAMES)} did, {rng.choice(list(MANNERS))}") for talk in asked]
    write_jsonl(root / "sft.jsonl", said)
    how = sft.Settings(root / "sft", str(root / "fresh"), root / "sft.jsonl", epochs=6, lr=1e-2, precision="fp32")
    model = sft.run(how)
    prompts = [Conversation.ask(f"Who met {NAMES[number % 30]} at {number}?") for number in range(80)]
    sampling = Sampling(temperature=1.0, max_tokens=20, seed=3)
    return Spoken(model, prompts, answer(model, prompts, sampling, 4, "0001", torch.float32))


@pytest.fixture
def home(tmp_path: Path, spoken: Spoken) -> Path:
    spoken.fill(tmp_path / "home").close()
    return tmp_path / "home"


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, spoken: Spoken) -> Path:
    """A home that was improved without a disturbance."""
    home = tmp_path_factory.mktemp("undisturbed")
    spoken.fill(home).close()
    assert improve.run(spoken.settings(home)).promoted
    return home
