"""The demo's last measurement: every version on test prompts that nothing before has read.

Settings were chosen on the validation parts of other worlds; this reads the test part once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

from palmier.data.prompts import write_jsonl
from palmier.data.template import Template
from palmier.demo import measures
from palmier.demo.gold import Gold
from palmier.demo.learning import reward_run
from palmier.demo.making import demonstrations
from palmier.demo.neighbour import NearestNeighbour
from palmier.demo.pipeline import Demo
from palmier.demo.speaking import speak
from palmier.demo.tasks import SORTS, Task, load_tasks
from palmier.feedback.reward import ModelReward
from palmier.model.checkpoint import load_reward
from palmier.models.names import resolve_model
from palmier.records import Answer, Conversation, Sampling
from palmier.scale.runtime import default_dtype

METHODS = {"DPO": "dpo", "PPO": "ppo"}
"""Label of a version trained from the rankings, and its run."""
BASE_PROMPTS = 100
"""The base model rambles to the limit, so it is asked less."""
EXAMPLES = 2
"""Examples of each sort that the report shows: the first of the test set, not the best."""


@dataclass(frozen=True)
class Spoken:
    """One version's answers to the test prompts, and the judge's view of them."""

    answers: list[list[Answer]]
    golds: list[list[Gold]]


def compare(demo: Demo) -> dict[str, Any]:
    """Sample and judge every version; returns everything that the report shows."""
    tasks = load_tasks(demo.requests / "test.json")
    sampled, greedy = _speak_all(demo, tasks, greedy=False), _speak_all(demo, tasks, greedy=True)
    four, chosen = _best_of_four(demo, tasks)
    sampled["best of 4"] = chosen["reward"]
    found: dict[str, Any] = {
        "prompts": len(tasks),
        "samples": demo.size.test_samples,
        "temperature": demo.size.temperature,
        "sampled": {name: measures.summary(tasks, spoken.answers, spoken.golds) for name, spoken in sampled.items()},
        "greedy": {name: measures.summary(tasks, spoken.answers, spoken.golds) for name, spoken in greedy.items()},
        "against_sft": {"sampled": _against(demo, tasks, sampled), "greedy": _against(demo, tasks, greedy)},
        "kl": _distances(demo, tasks, sampled),
        "base": _base(demo, tasks, sampled["SFT"]),
        "neighbour": _neighbour(demo, tasks),
        "best_of_4": _gains(sampled["SFT"], four, chosen),
        "reward_model": _reward_curve(demo, tasks, four),
        "examples": _examples(tasks, sampled, greedy),
    }
    _save_answers(demo, sampled, greedy)
    return found


def _speak_all(demo: Demo, tasks: Sequence[Task], *, greedy: bool) -> dict[str, Spoken]:
    """SFT, DPO and PPO: ``test_samples`` answers at the collection temperature, or the greedy one."""
    runs = {"SFT": "sft"} | METHODS
    sampling = _sampling(demo, "test answers", 0.0 if greedy else demo.size.temperature)
    count = 1 if greedy else demo.size.test_samples
    return {label: _spoken(tasks, speak(demo.runs / run, tasks, sampling, count, label)) for label, run in runs.items()}


def _sampling(demo: Demo, purpose: str, temperature: float) -> Sampling:
    return Sampling(temperature=temperature, max_tokens=demo.size.answer_tokens, seed=demo.draw_seed(purpose))


def _spoken(tasks: Sequence[Task], answers: list[list[Answer]]) -> Spoken:
    return Spoken(answers, measures.judge_all(tasks, answers))


def _against(demo: Demo, tasks: Sequence[Task], spoken: dict[str, Spoken]) -> dict[str, Any]:
    """Every other version against SFT."""
    old = spoken["SFT"]
    return {
        label: measures.against(tasks, new.golds, old.golds, new.answers, old.answers, demo.seed)
        for label, new in spoken.items()
        if label != "SFT"
    }


def _best_of_four(demo: Demo, tasks: Sequence[Task]) -> tuple[Spoken, dict[str, Spoken]]:
    """Groups of four fresh SFT answers, and the one of each that the reward model and gold choose."""
    sampling = _sampling(demo, "best of 4", demo.size.temperature)
    answers = speak(demo.runs / "sft", tasks, sampling, 4 * demo.size.test_samples, "SFT")
    four = _spoken(tasks, answers)
    scores = _scores(reward_run(demo), tasks, answers)
    golds = [[gold.score for gold in some] for some in four.golds]
    return four, {"reward": _choose(four, scores), "oracle": _choose(four, golds)}


def _choose(four: Spoken, scores: Sequence[Sequence[float]]) -> Spoken:
    """Of every four answers the one with the highest score, the first of several."""
    answers: list[list[Answer]] = []
    golds: list[list[Gold]] = []
    for some, judged, given in zip(four.answers, four.golds, scores, strict=True):
        places = [max(range(i, i + 4), key=lambda j: given[j]) for i in range(0, len(some), 4)]  # used at once
        answers.append([some[place] for place in places])
        golds.append([judged[place] for place in places])
    return Spoken(answers, golds)


def _scores(run: Path, tasks: Sequence[Task], answers: Sequence[Sequence[Answer]]) -> list[list[float]]:
    """A reward model's scores of every answer."""
    folder = resolve_model(run)
    reward = ModelReward(load_reward(folder, default_dtype()), Template.load(folder), batch=64)
    asked = [Conversation.ask(task.prompt) for task, some in zip(tasks, answers, strict=True) for _ in some]
    flat = iter(reward.score(asked, [answer for some in answers for answer in some]))
    return [[next(flat) for _ in some] for some in answers]


def _gains(sft: Spoken, four: Spoken, chosen: dict[str, Spoken]) -> dict[str, Any]:
    """What choosing among four gains in gold over SFT, by the reward model and by gold itself."""
    plain = _mean([*sft.golds, *four.golds])
    reward, oracle = _mean(chosen["reward"].golds), _mean(chosen["oracle"].golds)
    share = (reward - plain) / (oracle - plain) if oracle > plain else 0.0
    return {"sft": plain, "reward": reward, "oracle": oracle, "share_of_oracle": round(share, 4)}


def _mean(golds: Sequence[Sequence[Gold]]) -> float:
    return round(fmean(gold.score for some in golds for gold in some), 4)


def _distances(demo: Demo, tasks: Sequence[Task], sampled: dict[str, Spoken]) -> dict[str, float]:
    """KL from SFT in nats an answer; of best-of-4 the formula ln 4 − 3/4 (Gao et al. 2022)."""
    found = {
        label: round(
            measures.kl_from_samples(
                demo.runs / run, demo.runs / "sft", tasks, [some[:1] for some in sampled[label].answers]
            ),
            3,
        )
        for label, run in METHODS.items()
    }
    return found | {"best of 4": 0.636}


def _base(demo: Demo, tasks: Sequence[Task], sft: Spoken) -> dict[str, Any]:
    """The pre-trained model on the first prompts, and SFT's win rate against it there."""
    few = tasks[:BASE_PROMPTS]
    sampling = _sampling(demo, "base", demo.size.temperature)
    base = _spoken(few, speak(demo.runs / "pretrain", few, sampling, 1, "base"))
    known = sft.golds[:BASE_PROMPTS]
    return {
        "measures": measures.summary(few, base.answers, base.golds),
        "sft_against": measures.against(few, known, base.golds, sft.answers[:BASE_PROMPTS], base.answers, demo.seed),
    }


def _neighbour(demo: Demo, tasks: Sequence[Task]) -> dict[str, Any]:
    """The demonstration of the most similar training request as an answer."""
    neighbour = NearestNeighbour(demonstrations(demo))
    answers = [[Answer(neighbour.answer(task.prompt))] for task in tasks]
    return measures.summary(tasks, answers, measures.judge_all(tasks, answers))


def _reward_curve(demo: Demo, tasks: Sequence[Task], four: Spoken) -> dict[str, Any]:
    """How many held-out pairs each reward model orders as gold does, noise-free; of the far ones too."""
    # One group of four answers to a prompt is as many pairs as volunteers saw, and enough.
    answers, golds = [some[:4] for some in four.answers], [some[:4] for some in four.golds]
    spread = measures.spread(golds)
    curve = []
    for count in demo.size.curve:
        scores = _scores(reward_run(demo, count), tasks, answers)
        right = measures.pair_accuracy(golds, scores, 0.0, demo.seed)
        far = measures.pair_accuracy(golds, scores, spread / 4, demo.seed)
        sorts = {}
        for sort in SORTS:
            chosen = [i for i, task in enumerate(tasks) if task.kind == sort]
            one = measures.pair_accuracy([golds[i] for i in chosen], [scores[i] for i in chosen], 0.0, demo.seed)
            sorts[sort] = None if one is None else round(one.mean, 4)
        curve.append(
            {
                "rankings": count,
                "right": None if right is None else asdict(right),
                "far_right": None if far is None else asdict(far),
                "sorts": sorts,
            }
        )
    return {"spread": round(spread, 3), "far": round(spread / 4, 3), "curve": curve}


def _examples(tasks: Sequence[Task], sampled: dict[str, Spoken], greedy: dict[str, Spoken]) -> list[dict[str, Any]]:
    """The first prompts of each sort with every version's first answer; and where PPO lost most."""
    places = [i for sort in SORTS for i in [j for j, task in enumerate(tasks) if task.kind == sort][:EXAMPLES]]
    fall = [new[0].score - old[0].score for new, old in zip(sampled["PPO"].golds, sampled["SFT"].golds, strict=True)]
    worst = sorted(range(len(tasks)), key=lambda i: fall[i])[:2]
    return [_example(tasks, sampled, greedy, i, lost=False) for i in places] + [
        _example(tasks, sampled, greedy, i, lost=True) for i in worst
    ]


def _example(
    tasks: Sequence[Task], sampled: dict[str, Spoken], greedy: dict[str, Spoken], place: int, *, lost: bool
) -> dict[str, Any]:
    answers = []
    for way, spoken in (("sampled", sampled), ("greedy", greedy)):
        for label in ("SFT", *METHODS):
            gold = spoken[label].golds[place][0]
            answers.append(
                {
                    "version": label,
                    "way": way,
                    "text": spoken[label].answers[place][0].text,
                    "score": gold.score,
                    "right": round(gold.right, 3),
                }
            )
    return {"prompt": tasks[place].prompt, "sort": tasks[place].kind, "lost": lost, "answers": answers}


def _save_answers(demo: Demo, sampled: dict[str, Spoken], greedy: dict[str, Spoken]) -> None:
    """Keep what was said, so that a person can look."""
    for way, spoken in (("sampled", sampled), ("greedy", greedy)):
        for label, one in spoken.items():
            path = demo.out / "answers" / f"{label.lower().replace(' ', '-')}-{way}.jsonl"
            write_jsonl(path, (answer for some in one.answers for answer in some))
