"""How often does an answer change with its company, or when its prompt is in the cache, in each number format?

    python -m experiments.company --out results/company/cpu.json [--prompts 16] [--tokens 48] [--model FOLDER]

Each prompt is answered three times with one seed: alone by an engine that has seen nothing, again by the same engine,
which then knows the prompt, and beside all the others at once. Told are the answers that stayed the same, and the
first tokens that differed among those that could have been the first (what follows a difference is another text).
In fp32 none may differ (docs/generate.md). Without ``--model`` it is SmolLM2-135M-Instruct.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from palmier.data.template import Template
from palmier.generate.engine import Engine
from palmier.generate.requests import Request
from palmier.model.gguf import embedded_model
from palmier.records import Conversation, Sampling
from palmier.scale import precision
from palmier.scale.precision import Precision
from palmier.workspace import Workspace

from .recorded import arguments, keep, provenance

PRECISIONS: tuple[Precision, ...] = ("fp32", "bf16", "int8")
TEMPERATURES = (0.0, 0.8)

WHOM = ("my landlord", "a friend", "the office", "a neighbour")
WHAT = ("the broken heating", "a birthday", "the weather", "a lost key")


def prompts(template: Template, count: int) -> list[tuple[int, ...]]:
    texts = [f"Write a few lines to {whom} about {what}." for whom in WHOM for what in WHAT]
    return [tuple(template.prompt(Conversation.ask(text))) for text in texts[:count]]


def answers(engine: Engine, requests: Sequence[Request]) -> list[tuple[int, ...]]:
    return [tuple(one.tokens) for (one,) in engine.run(requests)]


def first_difference(one: Sequence[int], other: Sequence[int]) -> int | None:
    """The place of the first token that differs, None where there is none."""
    if one == other:
        return None
    return next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other)))


def compared(alone: Sequence[Sequence[int]], other: Sequence[Sequence[int]]) -> dict[str, int]:
    """Answers that stayed the same; ``tokens`` are those that could have been the first to differ."""
    places = [first_difference(a, b) for a, b in zip(alone, other, strict=True)]
    tokens = sum(len(a) if place is None else place + 1 for a, place in zip(alone, places, strict=True))
    return {"answers": len(places), "same": places.count(None), "tokens": tokens}


def measured(folder: Path, chosen: Precision, count: int, tokens: int) -> list[dict[str, Any]]:
    template, decoder = Template.load(folder), precision.load(folder, chosen)
    asked = prompts(template, count)
    engine = Engine(decoder, slots=len(asked), queue=len(asked))
    found = []
    for temperature in TEMPERATURES:
        requests = [
            Request(str(i), ids, Sampling(temperature, max_tokens=tokens, seed=i), template.stop_ids)
            for i, ids in enumerate(asked)
        ]
        alone, again = [], []
        for request in requests:
            engine.forget()
            alone += answers(engine, [request])
            again += answers(engine, [request])
        engine.forget()
        beside = answers(engine, requests)
        found.append(
            {
                "precision": chosen,
                "temperature": temperature,
                "again": compared(alone, again),
                "beside": compared(alone, beside),
            }
        )
        print(found[-1], flush=True)
    return found


def main() -> int:
    parser = arguments(__doc__)
    parser.add_argument("--prompts", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=48, help="of an answer, at most")
    given = parser.parse_args()
    if not 2 <= given.prompts <= len(WHOM) * len(WHAT):
        parser.error(f"--prompts {given.prompts}: from 2 to {len(WHOM) * len(WHAT)}")
    sizes = f"--prompts {given.prompts} --tokens {given.tokens}"
    folder = given.model or embedded_model(Workspace.default())
    result = provenance(f"python -m experiments.company {sizes}", given.model) | {
        "model": given.model.name if given.model else "SmolLM2-135M-Instruct",
        "found": [one for chosen in PRECISIONS for one in measured(folder, chosen, given.prompts, given.tokens)],
    }
    keep(result, given.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
