"""`palmier.load`: what a Python program gets."""

from __future__ import annotations

import asyncio
import dataclasses
import gc
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import palmier
from palmier import Conversation, Message, Model, Refusal, Sampling
from palmier.data.template import Template
from palmier.generate.sampling import prompt_seed
from palmier.versions import Versions
from palmier.workspace import Workspace

from ..serve.home import SENTENCES, Models  # noqa: TID252  # tests are no package: the one way to a neighbour

ASK = "Write an e-mail."


def until(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def under_way(model: Model) -> int:
    return model._live.state.under_way


def engine_threads() -> int:
    return sum(thread.name == "palmier-engine" for thread in threading.enumerate())


def test_importing_it_loads_no_torch_and_every_public_name_is_there() -> None:
    code = "import sys, palmier; palmier.Sampling, palmier.Refusal; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
    assert all(getattr(palmier, name) is not None for name in palmier.__all__)
    assert set(palmier.__all__) == set(dir(palmier))
    with pytest.raises(AttributeError, match="no attribute 'lod'"):
        _ = palmier.lod
    assert (Path(palmier.__file__).parent / "py.typed").is_file()


def test_greedy_answers_are_those_that_transformers_gives(models: Models) -> None:
    folder = models["first"]
    prompt = Template.load(folder).prompt(Conversation.ask("Who are you?"))
    theirs = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    ids = theirs.generate(torch.tensor([prompt]), do_sample=False, max_new_tokens=12)[0, len(prompt) :]
    with palmier.load(folder) as model:
        (answer,) = model.generate("Who are you?", temperature=0, max_tokens=12)
        assert model.count("Who are you?") == len(prompt)
    assert list(answer.tokens) == ids.tolist()
    assert answer.version == "first"


def test_every_sampling_setting_is_taken_by_its_own_name(varied: Model) -> None:
    """Whatever fields `Sampling` has: none is lost on the way, none is invented."""
    given: dict[str, Any] = {"temperature": 0.7, "top_k": 7, "top_p": 0.8, "max_tokens": 5, "seed": 11}
    assert set(given) <= {field.name for field in dataclasses.fields(Sampling)}
    for name, value in given.items():
        (answer,) = varied.generate(ASK, **{"max_tokens": 5, name: value})
        assert getattr(answer.sampling, name) == value
    with pytest.raises(Refusal, match="unknown setting 'temprature'; known are temperature"):
        varied.generate(ASK, temprature=1.0)
    with pytest.raises(Refusal, match="empty one would end every answer"):
        varied.generate(ASK, stop=["x", ""])
    with pytest.raises(Refusal, match="top_p 7 is outside"):
        varied.generate(ASK, top_p=7)


def test_what_has_the_wrong_form_is_refused_and_the_model_goes_on(varied: Model) -> None:
    wrong: list[tuple[dict[str, Any], str]] = [
        ({"temperature": "warm"}, "temperature 'warm' is no number"),
        ({"seed": "a"}, "seed 'a' is no whole number"),
        ({"seed": 1.5}, "seed 1.5 is no whole number"),
        ({"max_tokens": 2.5}, "max_tokens 2.5 is no whole number"),
        ({"logit_bias": ((5.5, 1.0),)}, "a token id is a whole number"),
        ({"logit_bias": 5}, "pairs"),
        ({"stop": 5}, "stop is a text"),
        ({"n": 1.5}, "n is 1.5"),
        ({"n": "2"}, "n is '2'"),
        ({"n": True}, "n is True"),
    ]
    for settings, said in wrong:
        with pytest.raises(Refusal, match=said):
            varied.generate(ASK, **settings)
    with pytest.raises(Refusal, match="a text or a path, not int"):
        palmier.load(5)  # type: ignore[arg-type]  # what a person may give
    assert varied.chat(ASK, max_tokens=3, stop=None).tokens
    until(lambda: under_way(varied) == 0)
    (biased, same) = (varied.chat(ASK, seed=1, max_tokens=3, logit_bias=one) for one in ({40: 100.0}, ((40, 100.0),)))
    assert biased.tokens == same.tokens == (40, 40, 40)


def test_a_seed_gives_the_same_answers_and_each_answer_alone(varied: Model) -> None:
    first = varied.generate(ASK, 4, temperature=1.0, max_tokens=30, seed=3)
    assert [one.text for one in varied.generate(ASK, 4, temperature=1.0, max_tokens=30, seed=3)] == [
        one.text for one in first
    ]
    assert len({one.text for one in first}) > 1
    again = varied.generate(ASK, **dataclasses.asdict(first[2].sampling))
    assert again[0].tokens == first[2].tokens
    seeds = {varied.generate(ASK, max_tokens=1)[0].sampling.seed for _ in range(3)}
    assert len(seeds) == 3, "without a seed each call draws one"


def test_a_stream_is_the_answer_in_whole_characters(parrot: Model) -> None:
    pieces = list(parrot.stream("Who are you?", temperature=0))
    assert "".join(pieces) == SENTENCES["unicode"]
    assert len(pieces) > 5
    assert "�" not in "".join(pieces)
    assert "" not in pieces


def test_a_stop_text_ends_an_answer_before_it(models: Models) -> None:
    with palmier.load(models["first"]) as model:
        assert model.chat("Who are you?", temperature=0, stop="**first").text == "I am the "
        assert (
            "".join(model.stream("Who are you?", temperature=0, stop=["nowhere", " version"])) == "I am the **first**"
        )
        ((_, (answer,)),) = model.generate_all(["Who are you?"], temperature=0, stop=" the")
        assert (answer.text, answer.finish) == ("I am", "stop")


def test_a_stream_begins_before_the_answer_ends_and_can_be_left(endless: Model) -> None:
    stream = endless.stream("x", max_tokens=400)
    next(stream)
    until(lambda: under_way(endless) == 1)
    stream.close()  # type: ignore[attr-defined]  # a generator, promised as an iterator
    until(lambda: under_way(endless) == 0, 2)


def test_callers_share_one_engine_thread(varied: Model) -> None:
    engines, results = engine_threads(), {}

    def ask(seed: int) -> None:
        results[seed] = varied.generate(ASK, temperature=1.0, max_tokens=20, seed=seed)[0].text

    threads = [threading.Thread(target=ask, args=(seed,)) for seed in range(24)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert engine_threads() == engines
    alone = {seed: varied.generate(ASK, temperature=1.0, max_tokens=20, seed=seed)[0].text for seed in (0, 7, 23)}
    assert {seed: results[seed] for seed in alone} == alone


def test_more_callers_than_the_queue_holds_all_get_an_answer(endless: Model) -> None:
    async def scene() -> list[int]:
        answers = await asyncio.gather(*(endless.agenerate("x", max_tokens=2) for _ in range(150)))
        return [len(one.tokens) for (one,) in answers]

    assert asyncio.run(scene()) == [2] * 150


def test_async_streams_run_side_by_side_in_the_callers_loop(parrot: Model, endless: Model) -> None:
    async def read(model: Model, **sampling: Any) -> str:
        return "".join([piece async for piece in model.astream("Who are you?", **sampling)])

    async def scene() -> None:
        assert await asyncio.gather(*(read(parrot, temperature=0) for _ in range(3))) == [SENTENCES["unicode"]] * 3
        slow = asyncio.create_task(read(endless, max_tokens=400))
        while not under_way(endless):
            await asyncio.sleep(0.01)
        slow.cancel()
        with pytest.raises(asyncio.CancelledError):
            await slow
        # A notebook: the functions that wait work inside a running loop too.
        assert parrot.chat("Who are you?", temperature=0).text == SENTENCES["unicode"]

    asyncio.run(scene())
    until(lambda: under_way(endless) == 0, 2)


def test_many_prompts_come_as_they_end_each_with_its_own_seed(varied: Model) -> None:
    prompts = [f"Write an e-mail. {i}" for i in range(40)]
    found = dict(varied.generate_all(prompts, 2, temperature=1.0, max_tokens=12, seed=5))
    assert sorted(found) == list(range(40))
    for index in (0, 17, 39):
        alone = varied.generate(prompts[index], 2, temperature=1.0, max_tokens=12, seed=prompt_seed(5, index))
        assert [one.text for one in alone] == [one.text for one in found[index]]
    with pytest.raises(Refusal, match="prompt 2: the last message is the assistant's"):
        list(varied.generate_all(["x", [Message("user", "x"), Message("assistant", "y")]]))
    with pytest.raises(Refusal, match="prompt 1: n is 0"):
        list(varied.generate_all(["x"], 0))
    assert list(varied.generate_all([])) == []


def test_leaving_many_prompts_gives_the_others_up(endless: Model) -> None:
    many = endless.generate_all(["x"] * 200, max_tokens=4)
    next(many)
    many.close()  # type: ignore[attr-defined]  # a generator, promised as an iterator
    until(lambda: under_way(endless) == 0, 2)


def test_a_conversation_is_a_text_messages_or_a_conversation(models: Models) -> None:
    with palmier.load(models["first"]) as model:
        told = [{"role": "user", "content": "Who are you?"}]
        same: list[Any] = ["Who are you?", told, [Message("user", "Who are you?")], Conversation.ask("Who are you?")]
        assert {model.chat(one, temperature=0).text for one in same} == {SENTENCES["first"]}
        assert len({model.count(one) for one in same}) == 1
        assert model.count([{"role": "system", "content": "Be brief."}, *told]) > model.count(told)
        for bad, said in (
            ([], "non-empty list"),
            ([{"role": "king", "content": "x"}], "role 'king'"),
            ([*told, {"role": "assistant", "content": "I"}], "the last message is the assistant's"),
            (7, "not int"),
            ("word " * 700, "the context holds"),
        ):
            with pytest.raises(Refusal, match=said):
                model.chat(bad)  # type: ignore[arg-type]  # what a person may give
        with pytest.raises(Refusal, match="n is 0"):
            model.generate("x", 0)
        assert model.context >= 512


def test_a_closed_model_says_so_and_its_thread_ends(models: Models) -> None:
    before = engine_threads()
    model = palmier.load(models["endless"])
    said: list[str] = []

    def read() -> None:
        try:
            list(model.stream("x", max_tokens=500))
        except Refusal as refusal:
            said.append(str(refusal))

    reader = threading.Thread(target=read)
    reader.start()
    until(lambda: under_way(model) == 1)
    model.close()
    model.close()
    reader.join(10)
    assert said == ["the model endless is closed: load it again"]
    for call in (model.generate, model.chat):
        with pytest.raises(Refusal, match="closed: load it again"):
            call("x")
    assert engine_threads() == before
    forgotten = palmier.load(models["first"])
    assert engine_threads() == before + 1
    assert repr(forgotten) == f"<palmier.Model first at {models['first']}>"
    del forgotten
    gc.collect()
    until(lambda: engine_threads() == before)


def test_a_program_that_ends_in_the_middle_of_an_answer_ends_quietly(models: Models) -> None:
    code = f"""
import palmier
model = palmier.load({str(models["endless"])!r})
stream = model.stream("x", max_tokens=500)
print(next(stream) != "")
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "True\n", "")


def test_what_is_loaded_by_which_name(models: Models, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = Workspace(tmp_path / "home")
    versions = Versions(home)
    versions.add(models["first"], label="first")
    versions.add(models["second"], label="second")
    versions.promote("0002")
    shutil.copytree(models["first"], home.models / "owner" / "name")
    shutil.copytree(models["second"], tmp_path / "run" / "step-3")
    (tmp_path / "run" / "latest").write_text("step-3")
    monkeypatch.chdir(tmp_path)
    expected = {None: ("0002", "second"), "0001": ("0001", "first"), "owner/name": ("owner/name", "first")}
    expected |= {"run": ("run", "second"), str(models["first"]): ("first", "first")}
    for name, (called, says) in expected.items():
        with palmier.load(name, home=home.home) as model:
            answer = model.chat("Who are you?", temperature=0)
            assert (answer.version, answer.text) == (called, SENTENCES[says])
    with pytest.raises(Refusal, match="nothing is no model"):
        palmier.load("nothing", home=home.home)
    os.truncate(home.models / "owner" / "name" / "model.safetensors", 1000)
    with pytest.raises(Refusal, match="owner/name"):
        palmier.load("owner/name", home=home.home)


def test_the_weights_are_held_as_asked(models: Models) -> None:
    for asked in ("fp32", "bf16", "int8"):
        with palmier.load(models["varied"], precision=asked) as model:  # type: ignore[arg-type]  # a loop over its values
            assert model.precision == asked
    with pytest.raises(Refusal, match="precision 'fp8' is none: choose one of auto, fp32, bf16, int8"):
        palmier.load(models["varied"], precision="fp8")  # type: ignore[arg-type]  # what a person may write
