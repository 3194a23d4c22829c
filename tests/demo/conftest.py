"""A demo so small that it takes seconds: it learns next to nothing, and goes through every stage."""

from __future__ import annotations

from dataclasses import replace

import pytest

from palmier.demo.sizes import LOOP, Size


@pytest.fixture(scope="session")
def tiny() -> Size:
    return replace(
        LOOP,
        name="tiny",
        characters=500_000,
        vocabulary=600,
        layers=1,
        hidden_size=64,
        length=256,
        demonstrations=1500,
        sft_epochs=4,
        sft_lr=6e-3,
        prompts=40,
        curve=(20, 40),
        ppo_warmup=1,
        ppo_iterations=1,
        ppo_episodes=32,
        validation_prompts=12,
        test_prompts=20,
        answer_tokens=40,
    )
