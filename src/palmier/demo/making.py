"""The demo's stages from text to rankings: what people and volunteers do, and the first two trainings."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any

from palmier.data import shards, tokenizer
from palmier.data.documents import read_documents
from palmier.data.prompts import read_rankings, write_jsonl
from palmier.demo import texts, volunteers
from palmier.demo.gold import judge, judge_text
from palmier.demo.pipeline import Demo
from palmier.demo.speaking import speak
from palmier.demo.tasks import Demonstration, Task, demonstrate, draw_tasks, load_tasks, save_tasks
from palmier.demo.world import Split, rng
from palmier.errors import Refusal
from palmier.feedback.store import Store
from palmier.records import Conversation, Document, Ranking, Sampling
from palmier.train import pretrain, sft
from palmier.versions import Version, Versions
from palmier.workspace import latest_step, write_text

CONSENT = "A simulated volunteer of the demo: its rankings may be used for training."
SETS: tuple[tuple[str, Split], ...] = (
    ("rankings", "train"),
    ("ppo", "train"),
    ("chat", "train"),
    ("validation", "validation"),
    ("test", "test"),
)
"""Every set of requests beside the demonstrations, and the part of the world that it is about."""
PPO_PROMPTS = 1600
CHAT_PROMPTS = 200


def write_text_files(demo: Demo) -> dict[str, Any]:
    """Write the pre-training text (or count the user's own) and every set of requests."""
    found: dict[str, Any] = {}
    if demo.text is None:
        documents = list(texts.documents(demo.world, demo.size.characters, rolls=demo.size.rolls))
        write_jsonl(demo.out / "text.jsonl", ({"text": document.text} for document in documents))
        write_text(demo.out / "text-sample.txt", "\n\n".join(document.text for document in documents[:200]) + "\n")
    else:
        documents = list(_cut(read_documents([demo.text]), demo.size.characters))
        write_jsonl(demo.out / "text.jsonl", ({"text": document.text} for document in documents))
    found["documents"] = len(documents)
    found["characters"] = sum(len(document.text) for document in documents)
    shown = demonstrations(demo)
    write_jsonl(demo.requests / "demonstrations.jsonl", (one.conversation for one in shown))
    for name, split in SETS:
        tasks = draw_tasks(demo.world, split, _count(demo, name), name)
        save_tasks(demo.requests / f"{name}.json", tasks)
        write_jsonl(demo.requests / f"{name}.jsonl", (Conversation.ask(task.prompt) for task in tasks))
        found[name] = len(tasks)
    found["demonstrations"] = len(shown)
    found["demonstrations_gold"] = round(fmean(judge_text(one.task, one.answer).score for one in shown[:1000]), 2)
    return found


def train_tokenizer(demo: Demo) -> dict[str, Any]:
    """Learn the vocabulary from a part of the text and of the demonstrations, then write token shards."""
    sample = islice(read_documents([demo.out / "text.jsonl"]), 30_000)
    spoken = (Document(f"{one.task.prompt}\n{one.answer}", "demonstrations") for one in demonstrations(demo))
    vocabulary = tokenizer.train(_both(sample, spoken), demo.size.vocabulary)
    vocabulary.save(demo.out / "tokenizer")
    manifest = shards.prepare(
        read_documents([demo.out / "text.jsonl"]), vocabulary, demo.out / "shards", validation=0.02, seed=demo.seed
    )
    tokens = {name: split.tokens for name, split in manifest.splits.items()}
    return {"vocabulary": vocabulary.size, "tokens": tokens}


def pretrain_model(demo: Demo) -> dict[str, Any]:
    """Train the PaLM on the text: one pass over the world's, or as many tokens of the user's."""
    size = demo.size
    tokens = demo.found("tokenizer")["tokens"]["train"]
    settings = pretrain.Settings(
        out=demo.runs / "pretrain",
        data=demo.out / "shards",
        tokenizer=demo.out / "tokenizer",
        layers=size.layers,
        hidden_size=size.hidden_size,
        heads=size.heads,
        length=size.length,
        batch=size.pretrain_batch,
        steps=max(100, tokens // (size.pretrain_batch * size.length)),
        lr=size.pretrain_lr,
        warmup=60,
        validate_every=50 if size.name == "loop" else 100,
        seed=demo.seed,
    )
    pretrain.run(settings)
    return {"tokens": settings.steps * settings.batch * settings.length, "steps": settings.steps}


def fine_tune(demo: Demo) -> dict[str, Any]:
    """SFT on the demonstrations; then base and SFT become the home's first versions."""
    settings = sft.Settings(
        out=demo.runs / "sft",
        model=str(demo.runs / "pretrain"),
        data=demo.requests / "demonstrations.jsonl",
        epochs=demo.size.sft_epochs,
        lr=demo.size.sft_lr,
        seed=demo.seed,
    )
    sft.run(settings)
    base = add_version(demo, "base", demo.runs / "pretrain", None)
    tuned = add_version(demo, "SFT", demo.runs / "sft", base.name)
    Versions(demo.home).promote(tuned.name)
    chat = load_tasks(demo.requests / "chat.json")
    write_jsonl(demo.home.prompts, (Conversation.ask(task.prompt) for task in chat))
    return {"base": base.name, "sft": tuned.name}


def rank_answers(demo: Demo) -> dict[str, Any]:
    """Draw K answers to each prompt by SFT, let volunteers rank them into the store, export the rankings."""
    tasks = load_tasks(demo.requests / "rankings.json")
    version = demo.found("sft")["sft"]
    sampling = Sampling(
        temperature=demo.size.temperature,
        max_tokens=demo.size.answer_tokens,
        seed=demo.draw_seed("ranked answers"),
    )
    answers = speak(demo.runs / "sft", tasks, sampling, demo.size.answers, version)
    draw = rng(demo.seed, "volunteers")
    rankings = [volunteers.rank(task, given, draw) for task, given in zip(tasks, answers, strict=True)]
    store = Store(demo.home.store)
    for name in sorted({ranking.annotator for ranking in rankings}):
        if store.consent(name) is None:
            store.set_consent(name, True, CONSENT)
    for number, ranking in enumerate(rankings):
        store.add_ranking(ranking, key=f"demo ranking {number}")
    kept = store.training_rankings()
    store.close()
    for count in demo.size.curve:
        write_jsonl(demo.rankings / f"{count}.jsonl", kept[:count])
    return _noise(tasks, rankings) | {"rankings": len(kept)}


def add_version(demo: Demo, label: str, run: Path, parent: str | None, **facts: Any) -> Version:
    """The home's version with this label, added where there is none yet (a killed stage comes here twice)."""
    versions = Versions(demo.home)
    for version in versions.all():
        if version.card.get("label") == label:
            return version
    return versions.add(latest_step(run), label=label, parent=parent, **facts)


def demonstrations(demo: Demo) -> list[Demonstration]:
    """What SFT learns from, and the nearest neighbour answers with."""
    tasks = draw_tasks(demo.world, "train", demo.size.demonstrations, "sft")
    return demonstrate(demo.world, "train", tasks, "sft")


def ranking_file(demo: Demo, count: int) -> list[Ranking]:
    """The first ``count`` rankings."""
    return read_rankings(demo.rankings / f"{count}.jsonl")


def _noise(tasks: list[Task], rankings: list[Ranking]) -> dict[str, Any]:
    """How often the volunteers really erred."""
    flipped = pairs = 0
    scores = []
    for task, ranking in zip(tasks, rankings, strict=True):
        golds = [judge(task, answer).score for answer in ranking.answers]
        wrong, count = volunteers.flipped_pairs(golds, ranking.ranks)
        flipped, pairs = flipped + wrong, pairs + count
        scores += golds
    return {"pairs": pairs, "flipped": round(flipped / max(1, pairs), 4), "gold": round(fmean(scores), 3)}


def _count(demo: Demo, name: str) -> int:
    size = demo.size
    return {
        "rankings": size.prompts,
        "ppo": PPO_PROMPTS,
        "chat": CHAT_PROMPTS,
        "validation": size.validation_prompts,
        "test": size.test_prompts,
    }[name]


def _both(first: Iterator[Document], second: Iterator[Document]) -> Iterator[Document]:
    yield from first
    yield from second


def _cut(documents: Iterator[Document], characters: int) -> Iterator[Document]:
    """Documents in pieces of some paragraphs, up to ``characters`` in all; raises Refusal where there are few."""
    left = characters
    for document in documents:
        for start in range(0, len(document.text), 4000):
            piece = document.text[start : start + 4000]
            if left <= 0:
                return
            left -= len(piece)
            yield Document(piece, document.source)
    if characters - left < 200_000:
        raise Refusal(
            f"only {characters - left:,} characters of text: a demo needs at least 200,000 to learn a language"
        )
