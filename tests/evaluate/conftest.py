"""A tokenizer, its template and a tiny PaLM."""

from __future__ import annotations

import pytest

from palmier.data import tokenizer
from palmier.data.template import Template
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.records import Document


@pytest.fixture(scope="session")
def template() -> Template:
    text = "Dear Ann, the meeting is at noon. Please bring the red book and a cup of tea. Yours, Bob. " * 3
    return Template(tokenizer.train([Document(text, "here")], 320))


@pytest.fixture
def decoder(template: Template) -> Decoder:
    return Decoder.create(ModelConfig.palm(template.tokenizer.size, 32, 2, 2, max_positions=128), seed=3)
