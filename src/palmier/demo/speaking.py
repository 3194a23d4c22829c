"""Answers of one model to many requests, drawn by the engine that the chat uses."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from palmier.data.template import Template
from palmier.demo.tasks import Task
from palmier.generate.engine import Engine
from palmier.generate.rollout import rollout
from palmier.model import checkpoint
from palmier.models.names import resolve_model
from palmier.records import Answer, Conversation, Sampling
from palmier.scale.runtime import default_dtype

SLOTS = 256
"""Answers that are drawn at once: a small model is bound by the steps, not by the rows."""


def speak(model: Path, tasks: Sequence[Task], sampling: Sampling, n: int, version: str) -> list[list[Answer]]:
    """``n`` answers to each request by the model of a run or folder."""
    folder = resolve_model(model)
    template = Template.load(folder)
    engine = Engine(checkpoint.load(folder, default_dtype()), slots=SLOTS)
    conversations = [Conversation.ask(task.prompt) for task in tasks]
    return rollout(engine, template, conversations, sampling, n, version)
