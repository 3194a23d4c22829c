"""One template: the ids that are trained on are those that are answered from, and only the assistant's carry loss."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from palmier.data.template import Template, default_system_prompt
from palmier.data.tokenizer import CHATML, SPECIALS, Tokenizer
from palmier.errors import Refusal
from palmier.model import gguf as model_gguf
from palmier.model import gguf_tokenizer
from palmier.records import Answer, Conversation, Message

SMOLLM_SYSTEM = "You are a helpful AI assistant named SmolLM, trained by Hugging Face"

# SmolLM2's vocabulary lacks the bytes of some control characters and of planes that hold no text.
letters = st.characters(codec="utf-8", max_codepoint=0x3FFFF, exclude_categories=["Cc"])
content = st.one_of(
    st.text(letters, max_size=30),
    st.lists(st.sampled_from([*SPECIALS, "assistant\n", "\n", " ", "1", "é🦙", "<|im", "_end|>"]), max_size=6).map(
        "".join
    ),
)
questions = st.builds(Message, st.just("user"), content)
replies = st.builds(Message, st.just("assistant"), content)


@st.composite
def asked(draw: st.DrawFn) -> Conversation:
    """Several turns, perhaps a system message first, a question last."""
    messages = [Message("system", draw(content))] if draw(st.booleans()) else []
    for _ in range(draw(st.integers(0, 2))):
        messages += [draw(questions), draw(replies)]
    return Conversation((*messages, draw(questions)))


@pytest.fixture(scope="session")
def smollm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """SmolLM2's tokenizer folder, as the model's import writes it, without its weights."""
    folder = tmp_path_factory.mktemp("smollm")
    path = model_gguf.packaged_file()
    reader = gguf.GGUFReader(path)
    values = {name: field.contents() for name, field in reader.fields.items()}
    gguf_tokenizer.build(values, 49152).save(str(folder / "tokenizer.json"))
    (folder / "tokenizer_config.json").write_text(json.dumps(gguf_tokenizer.settings(values, 2048)))
    return folder


@pytest.fixture(scope="session", params=["own", "smollm"])
def either(request: pytest.FixtureRequest, template: Template) -> Template:
    return template if request.param == "own" else Template.load(request.getfixturevalue("smollm"))


def test_golden_ids_and_mask(template: Template) -> None:
    encode = template.tokenizer.encode
    talk = Conversation(
        (Message("system", "Be brief."), Message("user", "Hi"), Message("assistant", "Yes?"), Message("user", "2+2"))
    ).reply("4")
    parts: list[tuple[list[int], int]] = [
        ([1], 0), (encode("system\nBe brief."), 0), ([2], 0), (encode("\n"), 0),
        ([1], 0), (encode("user\nHi"), 0), ([2], 0), (encode("\n"), 0),
        ([1], 0), (encode("assistant\n"), 0), (encode("Yes?"), 1), ([2], 1), (encode("\n"), 0),
        ([1], 0), (encode("user\n2+2"), 0), ([2], 0), (encode("\n"), 0),
        ([1], 0), (encode("assistant\n"), 0), (encode("4"), 1), ([2], 1),
    ]  # fmt: skip
    rendered = template.render(talk)
    assert rendered.ids == [token for ids, _ in parts for token in ids]
    assert rendered.mask == [bit for ids, bit in parts for _ in ids]


@settings(max_examples=250, deadline=None)
@given(asked(), content)
def test_a_prompt_and_its_answer_are_what_training_sees(either: Template, question: Conversation, text: str) -> None:
    prompt, rendered = either.prompt(question), either.render(question.reply(text))
    answer = either.answer_ids(Answer(text))
    assert rendered.ids == prompt + answer
    assert rendered.mask[len(prompt) :] == [1] * len(answer)
    assert either.answer_text(answer) == text
    followed = question.reply(text)
    again = Conversation((*followed.messages, Message("user", "And?")))
    assert either.prompt(again)[: len(rendered.ids)] == rendered.ids


@settings(max_examples=250, deadline=None)
@given(asked(), content)
def test_only_turns_make_special_tokens_and_every_answer_ends_with_loss(
    either: Template, question: Conversation, text: str
) -> None:
    talk = question.reply(text)
    rendered = either.render(talk)
    start, end = either.tokenizer.id("<|im_start|>"), either.tokenizer.id("<|im_end|>")
    turns = len(talk.messages) + bool(either.system and talk.messages[0].role != "system")
    assert rendered.ids.count(start) == rendered.ids.count(end) == turns
    assert rendered.ids[0] == start
    assert start not in rendered.ids[1:2]
    assert either.tokenizer.id("<|endoftext|>") not in rendered.ids
    trained = [token for token, bit in zip(rendered.ids, rendered.mask, strict=True) if bit]
    said = [message.content for message in talk.messages if message.role == "assistant"]
    assert trained.count(end) == len(said)
    assert either.tokenizer.decode(trained) == "".join(said)


def test_transformers_renders_the_same_ids(either: Template, tmp_path: Path) -> None:
    from transformers import PreTrainedTokenizerFast

    either.tokenizer.save(tmp_path)
    theirs: Any = PreTrainedTokenizerFast.from_pretrained(tmp_path, local_files_only=True)
    texts = [
        "Write an e-mail to my landlord, Mr Höß, about 350 €.",
        "  spaced\n\n",
        "\n\ndef f(x):\n\treturn 2*x\n",
        "🦙 123",
    ]
    for first, second in zip(texts, texts[::-1], strict=True):
        messages = [Message("user", first), Message("assistant", second.strip()), Message("user", second)]
        for question in (Conversation(tuple(messages)), Conversation((Message("system", first), *messages))):
            prompt = theirs.apply_chat_template(question.to_json(), add_generation_prompt=True, return_dict=False)
            assert either.prompt(question) == prompt
            whole = theirs.apply_chat_template(question.reply("Yours, Ada").to_json(), return_dict=False)
            assert [*either.render(question.reply("Yours, Ada")).ids, *either.tokenizer.encode("\n")] == whole


def test_smollms_default_system_prompt_is_honoured(smollm: Path, template: Template, tmp_path: Path) -> None:
    loaded = Template.load(smollm)
    assert (loaded.system, template.system) == (SMOLLM_SYSTEM, "")
    given_one = Conversation((Message("system", SMOLLM_SYSTEM), Message("user", "Hi")))
    assert loaded.prompt(Conversation.ask("Hi")) == loaded.prompt(given_one)
    loaded.tokenizer.save(tmp_path)  # and it goes along with a model that is trained from it
    assert Template.load(tmp_path).system == SMOLLM_SYSTEM
    assert Tokenizer.load(tmp_path).fingerprint == loaded.tokenizer.fingerprint


def test_smollms_ids_are_plain_where_a_person_types_its_special_tokens(smollm: Path) -> None:
    tokenizer = Tokenizer.load(smollm)
    added = json.loads((smollm / "tokenizer.json").read_text("utf-8"))["added_tokens"]
    assert len(added) >= len(SPECIALS)
    for token in added:
        assert token["id"] not in tokenizer.encode(f"a{token['content']} b"), token["content"]


def test_drawn_tokens_are_used_as_they_are(template: Template) -> None:
    drawn = (*template.tokenizer.encode("a"), *template.tokenizer.encode("b"), template.stop_ids[0])
    assert template.answer_ids(Answer("ab", tokens=drawn)) == list(drawn)
    assert template.answer_ids(Answer("ab", finish="length")) == template.tokenizer.encode("ab")
    foreign = Answer("ab", tokens=(10**6, *template.tokenizer.encode("x")))
    assert template.answer_ids(foreign) == template.answer_ids(Answer("ab"))
    assert template.answer_text((*drawn, *template.tokenizer.encode("after the end"))) == "ab"


def test_a_conversation_without_an_answer_is_refused(template: Template) -> None:
    with pytest.raises(Refusal, match="nothing to learn"):
        template.render(Conversation.ask("Hi"))
    with pytest.raises(Refusal, match="the last message is the assistant's"):
        template.prompt(Conversation.ask("Hi").reply("Yes?"))
    for read in (template.prompt, template.render):
        with pytest.raises(Refusal, match="no message"):
            read(Conversation(()))


@pytest.mark.parametrize(
    "source",
    [
        "{% for m in messages %}[INST] {{ m['content'] }} [/INST]{% endfor %}",
        CHATML.replace("message['content']", "message['content'].strip().upper()"),
        CHATML.replace("<|im_start|>assistant", "<|im_start|>model"),
        "<|im_start|>" + CHATML,
        "{% if messages[0]['role'] != 'system' %}Hello{% endif %}" + CHATML,
        "{% if messages[0]['role'] == 'system' %}Hello{% endif %}" + CHATML,
        "{{ nothing.at.all() }}",
        "{% for %}",
        "{{ raise_exception('no') }}",
        "",
    ],
)
def test_a_template_that_is_not_chatml_is_refused(source: str) -> None:
    with pytest.raises(Refusal, match="chat_template"):
        default_system_prompt({"chat_template": source})


def test_a_folder_without_a_template_or_its_tokens_is_refused(tokenizer: Tokenizer, tmp_path: Path) -> None:
    tokenizer.save(tmp_path)
    config = json.loads((tmp_path / "tokenizer_config.json").read_text("utf-8"))
    (tmp_path / "chat_template.jinja").write_text(config.pop("chat_template"), "utf-8")
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(config))
    assert Template.load(tmp_path).system == ""  # newer folders keep the template in a file of its own
    (tmp_path / "chat_template.jinja").unlink()
    with pytest.raises(Refusal, match="no chat_template"):
        Template.load(tmp_path)
