"""Prompts in, Answers out, each stamped with the version that spoke and with what reproduces it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from palmier.data.template import Template
from palmier.generate.engine import Engine, Progress
from palmier.generate.requests import Request
from palmier.generate.sampling import prompt_seed, sample_seed
from palmier.records import Answer, Conversation, Sampling


def rollout(
    engine: Engine,
    template: Template,
    conversations: Sequence[Conversation],
    sampling: Sampling,
    n: int,
    version: str,
    progress: Progress | None = None,
) -> list[list[Answer]]:
    """Draw ``n`` answers to each conversation (its last message is the user's).

    Answer (i, j) draws with a seed of its own, made of (sampling.seed, i, j); the ``sampling`` that
    it carries, seed included, reproduces it in a request of one sample. Its ``tokens`` are the very
    ids that were drawn, to be trained on as they are. ``progress`` hears (answers done, in all).
    Raises Refusal where a prompt fills the engine's context.
    """
    requests = [
        Request(
            id=f"prompt {i + 1}",
            prompt=tuple(template.prompt(conversation)),
            sampling=replace(sampling, seed=prompt_seed(sampling.seed, i)),
            stop_ids=template.stop_ids,
            n=n,
        )
        for i, conversation in enumerate(conversations)
    ]
    engine.forget()
    answers = []
    for request, completions in zip(requests, engine.run(requests, progress), strict=True):
        seeds = [sample_seed(request.sampling.seed, j) for j in range(n)]
        answers.append(
            [
                Answer(
                    text=template.answer_text(completion.tokens),
                    version=version,
                    tokens=completion.tokens,
                    logprobs=completion.logprobs,
                    finish=completion.finish,
                    sampling=replace(sampling, seed=seed),
                )
                for completion, seed in zip(completions, seeds, strict=True)
            ]
        )
    return answers
