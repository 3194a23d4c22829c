from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from palmier.errors import Refusal
from palmier.evaluate.perplexity import perplexity
from palmier.model import checkpoint
from palmier.model.decoder import Decoder

IDS = torch.randint(0, 300, (201,), generator=torch.Generator().manual_seed(0)).tolist()


def slowly(decoder: Decoder, ids: list[int], length: int, stride: int) -> float:
    """Each token by a forward pass of its own over exactly the window that scores it."""
    total = 0.0
    for target in range(1, len(ids)):
        begin = 0 if target < length else math.ceil((target + 1 - length) / stride) * stride
        logits = decoder.logits(decoder(torch.tensor([ids[begin:target]])))[0, -1]
        total -= torch.log_softmax(logits, -1)[ids[target]].item()
    return total / (len(ids) - 1)


@pytest.mark.parametrize(
    ("length", "stride", "count"), [(32, 16, 201), (32, 31, 201), (7, 1, 40), (128, 64, 100), (2, 1, 9)]
)
def test_every_token_once_with_its_window(decoder: Decoder, length: int, stride: int, count: int) -> None:
    told: list[int] = []
    with torch.no_grad():
        wanted = slowly(decoder, IDS[:count], length, stride)
    found = perplexity(decoder, IDS[:count], length, stride=stride, progress=told.append)
    assert found.nats == pytest.approx(wanted, abs=1e-5)
    assert found.tokens == count - 1 == sum(told)


def test_it_does_not_depend_on_the_batch(decoder: Decoder) -> None:
    values = [perplexity(decoder, IDS, 32, batch=batch).nats for batch in (1, 3, 100)]
    assert values == pytest.approx([values[0]] * 3, abs=1e-6)


def test_transformers_says_the_same(decoder: Decoder, tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    checkpoint.save(decoder, tmp_path)
    model = transformers.AutoModelForCausalLM.from_pretrained(tmp_path, dtype=torch.float32)
    length, stride, previous, losses = 64, 32, 1, []
    for begin in range(0, len(IDS), stride):  # as transformers' own guide to perplexity does it
        end = min(begin + length, len(IDS))
        targets = torch.tensor([IDS[begin:end]])
        targets[:, : previous - begin] = -100
        with torch.no_grad():
            loss = model(torch.tensor([IDS[begin:end]]), labels=targets).loss.item()
        losses.append(loss * (end - previous))
        previous = end
        if end == len(IDS):
            break
    assert perplexity(decoder, IDS, length).nats == pytest.approx(sum(losses) / (len(IDS) - 1), abs=1e-4)


def test_a_uniform_model_has_the_vocabulary_as_its_perplexity(decoder: Decoder) -> None:
    with torch.no_grad():
        decoder.model.norm.weight.zero_()
    assert perplexity(decoder, IDS, 32).value == pytest.approx(decoder.config.vocab_size, rel=1e-4)


@pytest.mark.parametrize(
    ("ids", "length", "stride"), [([1], 8, 4), (IDS, 1, 1), (IDS, 129, 4), (IDS, 8, 8), (IDS, 8, -1)]
)
def test_what_cannot_be_measured_is_refused(decoder: Decoder, ids: list[int], length: int, stride: int) -> None:
    with pytest.raises(Refusal):
        perplexity(decoder, ids, length, stride=stride)
