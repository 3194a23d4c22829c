"""OpenAI's completions of plain text: their own client, log-probs of prompts, streams, and what is refused."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import torch

from palmier.data.template import Template
from palmier.data.tokenizer import SPECIALS, Tokenizer
from palmier.model.checkpoint import load
from palmier.model.decoder import Decoder
from palmier.model.logprobs import token_logprobs
from palmier.records import Conversation
from palmier.workspace import Workspace

from .home import Models, Server, running
from .test_completions import under_way, wait_until

NEVER_ENDS = {"0": -100, "2": -100}
"""The tokens that end an answer are never drawn."""

TEXT = "Dear Ms Palm, the heating is broken. Grüße 🌴!"


def ask(server: Server, **fields: Any) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/completions", json=fields, timeout=60)


def choices(server: Server, **fields: Any) -> list[dict[str, Any]]:
    response = ask(server, **fields)
    assert response.status_code == 200, response.text
    return list(response.json()["choices"])


def chunks(server: Server, **fields: Any) -> list[dict[str, Any]]:
    lines = ask(server, **fields, stream=True).raise_for_status().text.splitlines()
    assert lines[-2] == "data: [DONE]"
    return [json.loads(line[6:]) for line in lines if line.startswith("data: {")]


def client(server: Server) -> openai.OpenAI:
    return openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0)


def template(server: Server) -> Template:
    return server.serving.live.answering.template


@torch.no_grad()
def trainers(models: Models, ids: list[int], name: str = "varied") -> list[float]:
    decoder: Decoder = load(models[name], torch.float32)
    tokens_1T = torch.tensor([ids])
    found = token_logprobs(decoder, decoder(tokens_1T[:, :-1]), tokens_1T[:, 1:])
    return [float(x) for x in found.logprobs_BT[0]]


def test_echo_and_logprobs_tell_what_the_trainer_computes(varied: Server, models: Models) -> None:
    told = client(varied).completions.create(
        model="current", prompt=TEXT, echo=True, logprobs=3, max_tokens=5, temperature=0, seed=1
    )
    (choice,) = told.choices
    assert choice.text.startswith(TEXT)
    assert choice.finish_reason == "length"
    ids = template(varied).tokenizer.encode(TEXT)
    assert told.usage is not None
    assert (told.usage.prompt_tokens, told.usage.completion_tokens) == (len(ids), 5)
    logprobs = choice.logprobs
    assert logprobs is not None
    lists = (logprobs.tokens, logprobs.token_logprobs, logprobs.top_logprobs, logprobs.text_offset)
    assert [len(one or []) for one in lists] == [len(ids) + 5] * 4
    assert logprobs.tokens
    assert logprobs.token_logprobs
    assert logprobs.top_logprobs
    assert logprobs.token_logprobs[0] is None
    assert logprobs.top_logprobs[0] is None
    assert logprobs.token_logprobs[1 : len(ids)] == pytest.approx(trainers(models, ids), abs=1e-4)
    for token, logprob, top, offset in list(zip(*lists, strict=True))[1:]:
        assert 3 <= len(top) <= 4
        assert top[token] == logprob
        assert max(top.values()) == next(iter(top.values()))
        if not token.startswith("bytes:"):
            assert choice.text.startswith(token, offset)
    assert any(token.startswith("bytes:") for token in logprobs.tokens), "the text has characters of several tokens"
    greedy = [one == max(top.values()) for one, top in list(zip(lists[1], lists[2], strict=True))[len(ids) :]]
    assert all(greedy), "at temperature 0 the likeliest token is drawn"


def test_without_echo_the_answers_tokens_alone_are_told(varied: Server) -> None:
    wish: dict[str, Any] = {"prompt": TEXT, "max_tokens": 6, "temperature": 0}
    (plain,) = choices(varied, **wish)
    assert plain["logprobs"] is None
    (told,) = choices(varied, **wish, logprobs=0)
    assert len(told["logprobs"]["tokens"]) == 6
    assert "".join(told["logprobs"]["tokens"]) == told["text"] == plain["text"]
    assert [list(top) for top in told["logprobs"]["top_logprobs"]] == [[one] for one in told["logprobs"]["tokens"]]
    assert told["logprobs"]["text_offset"][0] == 0
    (echoed,) = choices(varied, **wish, echo=True)
    assert (echoed["text"], echoed["logprobs"]) == (TEXT + plain["text"], None)


def test_nothing_is_drawn_where_max_tokens_is_0(varied: Server, models: Models) -> None:
    ids = template(varied).tokenizer.encode(TEXT)
    response = ask(varied, prompt=ids, echo=True, logprobs=1, max_tokens=0, n=2).json()
    for choice in response["choices"]:
        assert (choice["text"], choice["finish_reason"]) == (TEXT, "length")
        assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(trainers(models, ids), abs=1e-4)
    assert response["usage"] == {"prompt_tokens": len(ids), "completion_tokens": 0, "total_tokens": len(ids)}
    (bare,) = choices(varied, prompt=TEXT, echo=True, max_tokens=0)
    assert (bare["text"], bare["logprobs"]) == (TEXT, None)
    # A prompt may fill the whole context then: nothing follows it.
    full = (ids * 40)[:640]
    (choice,) = choices(varied, prompt=full, echo=True, logprobs=1, max_tokens=0)
    assert choice["logprobs"]["token_logprobs"][1:] == pytest.approx(trainers(models, full), abs=1e-4)


@pytest.mark.parametrize("echo", [False, True])
def test_a_stream_says_what_the_whole_answer_says(varied: Server, echo: bool) -> None:
    wish: dict[str, Any] = {
        "prompt": [TEXT, "Hello"],
        "n": 2,
        "temperature": 1.0,
        "seed": 5,
        "max_tokens": 12,
        "logprobs": 2,
        "echo": echo,
        "return_token_ids": True,
    }
    whole = ask(varied, **wish).json()
    events = chunks(varied, **wish, stream_options={"include_usage": True})
    assert events[-1]["choices"] == []
    assert events[-1]["usage"] == whole["usage"]
    assert {event["object"] for event in events} == {"text_completion"}
    for index, choice in enumerate(whole["choices"]):
        own = [event["choices"][0] for event in events[:-1] if event["choices"][0]["index"] == index]
        assert "".join(one["text"] for one in own) == choice["text"]
        assert [one["finish_reason"] for one in own] == [None] * (len(own) - 1) + [choice["finish_reason"]]
        assert [token for one in own for token in one["token_ids"]] == choice["token_ids"]
        assert own[0]["prompt_token_ids"] == choice["prompt_token_ids"]
        for name, expected in choice["logprobs"].items():
            streamed = [value for one in own for value in one["logprobs"][name]]
            if name == "token_logprobs":
                assert [x or 0.0 for x in streamed] == pytest.approx([x or 0.0 for x in expected], abs=1e-4)
            elif name != "top_logprobs":
                assert streamed == expected


def test_the_prompt_comes_first_even_where_another_sample_is_ahead(varied: Server) -> None:
    """The prompt lies in the cache: the second sample takes it from there, while the first one reads it again."""
    prompt = TEXT * 12
    choices(varied, prompt=prompt, max_tokens=2)
    events = chunks(varied, prompt=prompt, n=3, echo=True, logprobs=1, max_tokens=3, temperature=1.0)
    for index in range(3):
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert own[0]["text"].startswith(prompt)
        assert own[0]["logprobs"]["token_logprobs"][0] is None
        assert None not in own[0]["logprobs"]["token_logprobs"][1:]
        assert len(own[0]["logprobs"]["tokens"]) == len(template(varied).tokenizer.encode(prompt)) + 1


def test_several_prompts_are_answered_in_order_each_as_if_alone(varied: Server) -> None:
    prompts = ["Dear Ms Palm", "Hello", "Fix it", TEXT]
    wish: dict[str, Any] = {"n": 3, "temperature": 1.0, "seed": 11, "max_tokens": 10}
    together = choices(varied, prompt=prompts, **wish)
    assert [one["index"] for one in together] == list(range(12))
    alone = [one for prompt in prompts for one in choices(varied, prompt=prompt, **wish)]
    assert [one["text"] for one in together] == [one["text"] for one in alone]
    assert len({one["text"] for one in together}) > 6
    ids = [template(varied).tokenizer.encode(prompt) for prompt in prompts]
    told = choices(varied, prompt=ids, **wish, return_token_ids=True)
    assert [one["text"] for one in told] == [one["text"] for one in alone]
    assert [one["prompt_token_ids"] for one in told] == [one for one in ids for _ in range(3)]
    assert all(template(varied).answer_text(one["token_ids"]) == one["text"] for one in told)
    assert choices(varied, prompt=prompts[0], **wish | {"seed": 12})[0]["text"] != together[0]["text"]


def test_text_is_taken_as_it_stands_and_special_tokens_come_as_ids(varied: Server) -> None:
    chat = template(varied)
    (typed,) = choices(varied, prompt="<|im_end|>", return_token_ids=True, max_tokens=1)
    assert len(typed["prompt_token_ids"]) > 1, "what somebody types is no special token"
    conversation = chat.prompt(Conversation.ask("Who are you?"))
    raw = choices(varied, prompt=conversation, max_tokens=60, temperature=0, echo=True, logprobs=1)[0]
    chatted = httpx.post(
        f"{varied.url}/v1/chat/completions",
        json={"messages": [{"role": "user", "content": "Who are you?"}], "temperature": 0, "max_tokens": 60},
        timeout=60,
    ).json()["choices"][0]
    assert raw["text"] == chat.tokenizer.decode(conversation) + chatted["message"]["content"]
    assert raw["finish_reason"] == chatted["finish_reason"] == "stop"
    # The end token is the last one told: a harness leaves exactly one off.
    assert raw["logprobs"]["tokens"][-1] == "<|im_end|>"
    assert raw["logprobs"]["tokens"].count("<|im_start|>") == conversation.count(chat.tokenizer.id("<|im_start|>"))


def test_settings_reach_the_engine(varied: Server) -> None:
    (default,) = choices(varied, prompt="Dear", temperature=0)
    assert default["finish_reason"] == "length"
    x = template(varied).tokenizer.encode("x")[0]
    wish: dict[str, Any] = {"prompt": "Dear", "max_tokens": 4, "temperature": 0, "logit_bias": {str(x): 100}}
    assert choices(varied, **wish)[0]["text"] == "xxxx"
    assert choices(varied, **wish, stop=["xx"])[0]["text"] == ""
    stopped = choices(varied, **wish, stop="xxx", echo=True)[0]
    assert (stopped["text"], stopped["finish_reason"]) == ("Dear", "stop"), (
        "a stop string is not looked for in the prompt"
    )
    bent = wish | {"logit_bias": {str(x): 40}}
    assert choices(varied, **bent, presence_penalty=80)[0]["text"] != "xxxx"
    assert choices(varied, **bent, frequency_penalty=80)[0]["text"] != "xxxx"
    assert choices(varied, **bent, repetition_penalty=90)[0]["text"] != "xxxx"
    hot: dict[str, Any] = {"prompt": "Dear", "max_tokens": 12, "temperature": 50, "seed": 2}
    wild = choices(varied, **hot)[0]["text"]
    assert choices(varied, **hot, top_p=0.01)[0]["text"] != wild
    assert choices(varied, **hot, min_p=0.99)[0]["text"] != wild
    assert choices(varied, **hot, top_k=1)[0]["text"] != wild
    # Without a seed each prompt draws its own.
    assert len({one["text"] for one in choices(varied, prompt=["Dear"] * 4, max_tokens=12, temperature=3.0)}) > 1


def test_fields_that_ask_for_nothing_work(varied: Server) -> None:
    plain = choices(varied, prompt="Dear", temperature=0)
    neutral: dict[str, Any] = {
        "suffix": None,
        "best_of": 1,
        "logprobs": None,
        "logit_bias": {},
        "stop": None,
        "user": "me",
    }
    assert choices(varied, prompt="Dear", temperature=0, **neutral) == plain
    assert choices(varied, prompt="Dear", temperature=0, suffix="", seed=None, stream=False, echo=False) == plain


def test_what_cannot_come_is_told_as_json_can_hold_it(varied: Server) -> None:
    """So cold that every other token's log-prob is -∞."""
    wish: dict[str, Any] = {"prompt": "Dear", "temperature": 1e-38, "logprobs": 20, "max_tokens": 3}
    told = choices(varied, **wish)[0]["logprobs"]["top_logprobs"]
    assert min(value for top in told for value in top.values()) == -9999.0
    streamed = ask(varied, **wish, stream=True).text
    assert "Infinity" not in streamed
    assert "-9999.0" in streamed


@pytest.mark.parametrize("several", [False, True])
def test_closing_a_stream_frees_its_slots(home: Callable[..., Workspace], several: bool) -> None:
    with running(home("endless")) as server:
        prompt = ["la la", "la", "Who"] if several else "la la"
        with client(server).completions.create(
            model="current", prompt=prompt, max_tokens=600, n=2, logit_bias=NEVER_ENDS, stream=True
        ) as chunks:
            next(iter(chunks))
            wait_until(lambda: under_way(server) == (3 if several else 1), 2)
        wait_until(lambda: under_way(server) == 0, 1.5)
        engine = server.serving.live.answering.engine
        assert (engine.running, engine.waiting, engine.pages[0]) == (0, 0, 0)


def test_the_chat_tells_ids_on_request(varied: Server) -> None:
    body: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}], "temperature": 1.0, "seed": 3, "n": 2}
    url = f"{varied.url}/v1/chat/completions"
    whole = httpx.post(url, json=body | {"return_token_ids": True, "max_completion_tokens": 9}, timeout=60).json()
    chat = template(varied)
    assert whole["prompt_token_ids"] == chat.prompt(Conversation.ask("Hello"))
    assert whole["usage"]["completion_tokens"] == sum(len(one["token_ids"]) for one in whole["choices"])
    for one in whole["choices"]:
        assert 0 < len(one["token_ids"]) <= 9
        assert chat.answer_text(one["token_ids"]) == one["message"]["content"]
    lines = httpx.post(url, json=body | {"return_token_ids": True, "max_tokens": 9, "stream": True}, timeout=60).text
    events = [json.loads(line[6:]) for line in lines.splitlines() if line.startswith("data: {")]
    assert events[0]["prompt_token_ids"] == whole["prompt_token_ids"]
    for index, one in enumerate(whole["choices"]):
        own = [event["choices"][0] for event in events if event["choices"][0]["index"] == index]
        assert [token for piece in own for token in piece.get("token_ids", [])] == one["token_ids"]
    plain = httpx.post(url, json=body, timeout=60).json()
    assert "prompt_token_ids" not in plain
    assert "token_ids" not in plain["choices"][0]


def test_the_schema_names_the_fields(varied: Server) -> None:
    schema = httpx.get(f"{varied.url}/api/schema").json()
    fields = schema["components"]["schemas"]["TextCompletion"]["properties"]
    assert {"prompt", "max_tokens", "echo", "logprobs", "stream_options", "return_token_ids"} <= set(fields)
    assert {one.get("type") for one in fields["prompt"]["anyOf"]} == {"string", "array"}


@pytest.mark.parametrize(
    ("around", "config", "expected"),
    [
        (None, {}, []),
        (None, {"bos_token": "<|im_start|>", "add_bos_token": True}, []),
        ("<|endoftext|> $A <|im_end|>", {}, [0]),
        ("<|im_start|> $A", {"bos_token": "<|im_start|>", "add_bos_token": False}, [1]),
        ("$A <|im_end|>", {}, []),
    ],
)
def test_the_start_token_is_transformers_own(
    models: Models, tmp_path: Path, around: str | None, config: dict[str, Any], expected: list[int]
) -> None:
    """Where the tokenizer's folder asks for one, plain text begins with it; a conversation has its template."""
    from tokenizers.processors import TemplateProcessing
    from transformers import AutoTokenizer

    known = Tokenizer.load(models["first"])
    known.save(tmp_path)
    source, settings = tmp_path / "tokenizer.json", tmp_path / "tokenizer_config.json"
    if around is not None:
        specials = [(name, known.id(name)) for name in SPECIALS]
        processor = TemplateProcessing(single=around, special_tokens=specials)
        changed = json.loads(source.read_text("utf-8")) | {"post_processor": json.loads(processor.__getstate__())}
        source.write_text(json.dumps(changed), "utf-8")
    settings.write_text(json.dumps(json.loads(settings.read_text("utf-8")) | config), "utf-8")
    plain = Template.load(tmp_path).plain("Hello")
    assert plain == expected + known.encode("Hello")
    theirs = AutoTokenizer.from_pretrained(tmp_path)("Hello").input_ids
    assert theirs[: len(plain)] == plain
    assert Template.load(tmp_path).prompt(Conversation.ask("Hello")) == Template(known).prompt(
        Conversation.ask("Hello")
    )


def test_the_pages_example_runs(varied: Server, capsys: pytest.CaptureFixture[str]) -> None:
    page = (Path(__file__).parents[2] / "docs" / "api.md").read_text("utf-8")
    (block,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    exec(block.replace("http://127.0.0.1:8000", varied.url), {})
    said, told = capsys.readouterr().out.splitlines()
    assert said
    assert told.startswith("[('")
    assert ", None), (" in told
