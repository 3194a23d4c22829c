"""What a round of reinforcement learning asks, and the engine that answers."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from palmier.data.prompts import read_conversations
from palmier.data.template import Template
from palmier.errors import Refusal
from palmier.feedback.reward import Reward
from palmier.generate.engine import Engine
from palmier.model.decoder import Decoder
from palmier.records import Answer, Conversation
from palmier.scale import runtime

CACHE_BYTES = 512 * 2**20
"""What the engine's key/value cache may take."""


def fitting(path: Path, template: Template, limit: int) -> list[Conversation]:
    """The prompts of a file. Raises Refusal where one has more than ``limit`` tokens."""
    conversations = read_conversations(path)
    for number, conversation in enumerate(conversations, start=1):
        size = len(template.prompt(conversation))
        if size > limit:
            raise Refusal(
                f"{path}, prompt {number}: it has {size} tokens, and beside the longest answer the model has room for "
                f"{limit}: shorten it, or lower max_tokens"
            )
    return conversations


def try_out(template: Template, *asked: tuple[Reward | None, Sequence[Conversation]]) -> None:
    """Let each reward score one answer to its own first prompt: a program that fails does so before the work."""
    said = Answer("Yes.", tokens=tuple(template.answer_ids(Answer("Yes."))))
    for reward, conversations in asked:
        if reward is not None:
            reward.score([conversations[0]], [said])


def engine_for(
    policy: Decoder, template: Template, conversations: Sequence[Conversation], answers: int, max_tokens: int
) -> Engine:
    """An engine on the policy's own tensors that draws ``answers`` at once, as far as its cache has room."""
    context = max(len(template.prompt(conversation)) for conversation in conversations) + max_tokens
    return Engine(policy, slots=answers, context=context, memory=CACHE_BYTES)


def drawn_order(count: int, episodes: int, iteration: int, seed: int) -> list[int]:
    """Which of ``count`` prompts a round asks: all of them in a drawn order, again and again."""
    places = range(iteration * episodes, (iteration + 1) * episodes)
    orders: dict[int, list[int]] = {}
    for epoch in {place // count for place in places}:
        source = runtime.generator(seed, "prompts", epoch)
        orders[epoch] = torch.randperm(count, generator=source).tolist()
    return [orders[place // count][place % count] for place in places]


def draw_seed(*parts: int | str) -> int:
    """A seed for ``Sampling`` that depends on nothing but ``parts``."""
    return int(torch.randint(2**31, (), generator=runtime.generator(*parts)))
