"""The embedded SmolLM2: the numbers, ids and template that transformers reads out of the same GGUF."""

from __future__ import annotations

import multiprocessing
from pathlib import Path

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer, PreTrainedTokenizerFast

from palmier.cli.models import fetch
from palmier.errors import Refusal
from palmier.model import checkpoint, gguf, gguf_layout
from palmier.model.cache import KVCache
from palmier.model.config import ModelConfig
from palmier.model.gguf_export import export_gguf
from palmier.workspace import Workspace

from .llama_cpp import LlamaCpp

try:
    SOURCE = gguf.packaged_file()
except Refusal as missing:
    pytest.skip(str(missing), allow_module_level=True)

CONVERSATION = [
    {"role": "user", "content": "Write an e-mail to my landlord: the heating is off."},
    {
        "role": "assistant",
        "content": "Dear Ms Ray,\n\nthe heating in flat 12 has been off since Monday 3 March 2025.\n\nBest",
    },
    {"role": "user", "content": "Make it shorter, s'il vous plaît."},
]
TEXTS = [
    "Hello, I'm 1234 years old.",
    "  def f(x):\n\treturn x ** 2\n\n",
    "naïve café, 日本語 🎉",
    "a <|im_end|> b",
    "",
]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return gguf.embedded_model(Workspace(tmp_path_factory.mktemp("home")))


@pytest.mark.long
@torch.no_grad()
def test_log_probs_equal_transformers_own_reading_of_the_gguf(folder: Path) -> None:
    """Whole and through the cache, within 5e-4; and they are those of a model that knows English."""
    pytest.importorskip("accelerate", reason="transformers reads GGUF with it")
    theirs = AutoModelForCausalLM.from_pretrained(SOURCE.parent, gguf_file=SOURCE.name, dtype=torch.float32).eval()
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = torch.tensor([tokenizer.apply_chat_template(CONVERSATION, return_dict=False)])
    expected = theirs(ids).logits.log_softmax(-1)
    del theirs
    ours = checkpoint.load(folder)
    found = ours.logits(ours(ids)).log_softmax(-1)
    assert (found - expected).abs().max() <= 5e-4
    assert -found[0, :-1].gather(1, ids[0, 1:, None]).mean() < 5.0  # rows in the wrong order: above 8
    cache = KVCache(ours.config, 1, ids.shape[1], torch.float32)
    ours(ids[:, :-1], cache=cache)
    last = ours(ids[:, -1:], torch.tensor([[ids.shape[1] - 1]]), cache=cache)
    assert (ours.logits(last).log_softmax(-1)[0, 0] - expected[0, -1]).abs().max() <= 5e-4


def test_ids_and_chat_template_equal_transformers_own_reading(folder: Path) -> None:
    ours = PreTrainedTokenizerFast.from_pretrained(folder)
    theirs = AutoTokenizer.from_pretrained(SOURCE.parent, gguf_file=SOURCE.name)
    for text in TEXTS:
        assert ours(text).input_ids == theirs(text).input_ids, text
        assert ours.decode(ours(text).input_ids) == text
    for opened in (False, True):
        ids = ours.apply_chat_template(CONVERSATION, add_generation_prompt=opened, return_dict=False)
        assert ids == theirs.apply_chat_template(CONVERSATION, add_generation_prompt=opened, return_dict=False)
    assert (ours.bos_token, ours.eos_token, ours.pad_token) == ("<|im_start|>", "<|im_end|>", "<|im_end|>")
    assert len(ours) == 49152


def test_every_numeral_is_a_token_of_its_own(folder: Path) -> None:
    """SmolLM splits \\p{N} one by one before GPT-2's pattern; transformers' GGUF reader forgets it for "½"."""
    ids = PreTrainedTokenizerFast.from_pretrained(folder)("x ½ 12").input_ids
    pieces = PreTrainedTokenizerFast.from_pretrained(folder).convert_ids_to_tokens(ids)
    assert pieces == ["x", "Ġ", "Â½", "Ġ", "1", "2"]


def test_transformers_loads_the_folder(folder: Path) -> None:
    module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16)
    assert sum(parameter.numel() for parameter in module.parameters()) == 134_515_008


@pytest.mark.long
@torch.no_grad()
def test_out_again_and_into_llama_cpp(folder: Path, tmp_path: Path) -> None:
    """A trained model in each type: perplexity and best tokens over 60 places are those of our fp32."""
    decoder = checkpoint.load(folder)
    tokenizer = PreTrainedTokenizerFast.from_pretrained(folder)
    ids = tokenizer.apply_chat_template(CONVERSATION, return_dict=False)
    places = range(len(ids) - 61, len(ids) - 1)
    ours = decoder.logits(decoder(torch.tensor([ids]))[0]).log_softmax(-1)[places.start : places.stop]
    targets = torch.tensor(ids[places.start + 1 : places.stop + 1])
    for kind, size, near, agree in (
        ("f16", 270e6, 0.01, 0.98),
        ("bf16", 270e6, 0.03, 0.9),
        ("q8_0", 145e6, 0.06, 0.9),
    ):
        made = export_gguf(folder, tmp_path / f"{kind}.gguf", kind)
        assert made.bytes == pytest.approx(size, rel=0.03)
        llama = LlamaCpp(tmp_path / f"{kind}.gguf")
        theirs = torch.stack([llama.logprobs(ids[: place + 1], 49152, best=500) for place in places])
        found, expected = theirs[range(60), targets], ours[range(60), targets]
        told = found.isfinite()
        assert told.sum() > 50
        assert abs(found[told].mean() - expected[told].mean()) < near, kind  # nats: the perplexity's logarithm
        assert (theirs.argmax(-1) == ours.argmax(-1)).float().mean() >= agree, kind


def _make(home: str) -> None:
    gguf.embedded_model(Workspace(Path(home)))


@pytest.mark.long
def test_two_processes_in_a_new_home_make_it_once(tmp_path: Path) -> None:
    context = multiprocessing.get_context("spawn")
    processes = [context.Process(target=_make, args=(str(tmp_path),)) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    assert checkpoint.load(tmp_path / "models" / gguf.EMBEDDED).config.num_layers == 30
    assert sorted(path.name for path in (tmp_path / "models").iterdir()) == [".lock", gguf.EMBEDDED]


def test_rows_of_q_and_k_come_back_in_hugging_faces_order() -> None:
    """The order that the GGUF converter makes (a head's halves interleaved), undone."""
    config = ModelConfig("llama", 9, 12, 1, 2, 1, 6, 8, 16)
    original = np.arange(12 * 12, dtype=np.float32).reshape(12, 12)
    stored = original.reshape(2, 2, 3, 12).swapaxes(1, 2).reshape(12, 12)

    name = "model.layers.0.self_attn.q_proj.weight"
    assert np.array_equal(gguf_layout.rows_from_gguf(stored, name, config), original)
    assert np.array_equal(gguf_layout.rows_to_gguf(original, name, config), stored)
    assert not np.array_equal(stored, original)


@pytest.mark.parametrize("keep", [0, 3, 100, 5000, 60_000_000])
def test_a_gguf_that_was_cut_off_is_refused(keep: int, tmp_path: Path) -> None:
    path = tmp_path / "short.gguf"
    with SOURCE.open("rb") as file:
        path.write_bytes(file.read(keep))
    with pytest.raises(Refusal, match=r"short\.gguf is damaged or no GGUF"):
        gguf.import_gguf(path, tmp_path / "model")
    assert [item.name for item in tmp_path.iterdir()] == ["short.gguf"]


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(Refusal, match=r"none\.gguf is missing"):
        gguf.import_gguf(tmp_path / "none.gguf", tmp_path / "model")


def test_fetch_prints_the_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PALMIER_HOME", str(folder.parent.parent))
    fetch()
    assert str(folder) in capsys.readouterr().out.replace("\n", "")
