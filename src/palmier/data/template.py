"""The one chat template: ChatML as token ids with a mask, for SFT, reward, rollout and HTTP.

A turn is ``<|im_start|>role\\ncontent<|im_end|>`` and a line feed stands between turns.
Text is encoded with special tokens off, so nothing that a person types can end a turn.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from palmier.data.tokenizer import END_OF_TEXT, TURN_END, TURN_START, Tokenizer
from palmier.errors import Refusal
from palmier.records import Answer, Conversation, Message


@dataclass(frozen=True)
class Rendered:
    """``ids`` of a conversation; ``mask`` is 1 on what the assistant says and on its end token."""

    ids: list[int]
    mask: list[int]


class Template:
    """Turns conversations into ids by the tokenizer's own ChatML template.

    ``system`` is the folder's default system prompt ("" for none): it opens every
    conversation that brings no system message of its own.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.system = default_system_prompt(tokenizer.config)
        self._start, self._end = tokenizer.id(TURN_START), tokenizer.id(TURN_END)
        self._between = tokenizer.encode("\n")
        self._answer_header = [self._start, *tokenizer.encode("assistant\n")]
        self.stop_ids: tuple[int, ...] = (self._end, tokenizer.id(END_OF_TEXT))
        """Tokens that end an answer; the first is the one that training teaches."""

    @classmethod
    def load(cls, folder: Path) -> Template:
        """The template of a model's or a tokenizer's folder; raises Refusal where it is not ChatML."""
        tokenizer = Tokenizer.load(folder)
        try:
            return cls(tokenizer)
        except Refusal as refusal:
            raise Refusal(f"{folder}: {refusal}") from None

    def render(self, conversation: Conversation) -> Rendered:
        """A whole conversation, as SFT sees it.

        Where the last message is the assistant's, the ids are ``prompt(before it)`` +
        ``answer_ids(it)``. Raises Refusal where no assistant speaks, since nothing would be learnt.
        """
        ids: list[int] = []
        mask: list[int] = []
        for number, message in enumerate(self._messages(conversation)):
            head = self._between if number else []
            body, trained = self._turn(message)
            ids += head + body
            mask += [0] * (len(head) + len(body) - trained) + [1] * trained
        if not any(mask):
            raise Refusal("the conversation has no assistant's message, so there is nothing to learn from it")
        return Rendered(ids, mask)

    def prompt(self, conversation: Conversation) -> list[int]:
        """The ids that an answer follows: the conversation and an opened assistant's turn.

        Raises Refusal where the last message is not the user's.
        """
        if conversation.messages and conversation.messages[-1].role != "user":
            raise Refusal(
                f"the last message is the {conversation.messages[-1].role}'s: an answer follows a user's message"
            )
        ids: list[int] = []
        for message in self._messages(conversation):
            ids += self._turn(message)[0] + self._between
        return ids + self._answer_header

    def plain(self, text: str) -> list[int]:
        """The ids of text that is no conversation: to be continued, or scored, as it is."""
        return [*self.tokenizer.start, *self.tokenizer.encode(text)]

    def size(self, message: Message) -> int:
        """Tokens that a message takes in a prompt; beside its messages a prompt holds the opened answer alone."""
        return len(self._turn(message)[0]) + len(self._between)

    def answer_ids(self, answer: Answer) -> list[int]:
        """What follows the prompt: the very tokens that were drawn, else the encoded text and its end token.

        Ids that do not spell the text were drawn by a model with another tokenizer, and mean nothing here.
        """
        if answer.tokens and self.answer_text(answer.tokens) == answer.text:
            return list(answer.tokens)
        ids = self.tokenizer.encode(answer.text)
        return [*ids, self._end] if answer.finish == "stop" else ids

    def answer_text(self, ids: Iterable[int]) -> str:
        """The text of an answer's ids, up to its end token."""
        spoken = []
        for token in ids:
            if token in self.stop_ids:
                break
            spoken.append(token)
        return self.tokenizer.decode(spoken)

    def _messages(self, conversation: Conversation) -> Sequence[Message]:
        if not conversation.messages:
            raise Refusal("the conversation has no message")
        if self.system and conversation.messages[0].role != "system":
            return (Message("system", self.system), *conversation.messages)
        return conversation.messages

    def _turn(self, message: Message) -> tuple[list[int], int]:
        """The ids of one turn and how many of them, at its end, the assistant produced."""
        if message.role != "assistant":
            return [self._start, *self.tokenizer.encode(f"{message.role}\n{message.content}"), self._end], 0
        # Encoded apart from the header, because a model that answers starts after the header.
        spoken = [*self.tokenizer.encode(message.content), self._end]
        return self._answer_header + spoken, len(spoken)


def default_system_prompt(config: dict[str, Any]) -> str:
    """Read the default system prompt out of a tokenizer_config.json's ``chat_template``.

    The template is run on small conversations; raises Refusal where what comes out is not
    ChatML, since training would then differ from what other programs do with the model.
    """
    source = config.get("chat_template")
    if not isinstance(source, str):
        raise Refusal("the tokenizer's folder has no chat_template: Palmier chats in ChatML (<|im_start|>, <|im_end|>)")
    bare = [Message("user", "One?"), Message("assistant", "Two."), Message("user", "Three?")]
    opened = _chatml(bare) + "<|im_start|>assistant\n"
    found = _run_jinja(source, bare, config)
    head, foot = "<|im_start|>system\n", "<|im_end|>\n"
    system = ""
    if found.endswith(opened) and found != opened:
        extra = found.removesuffix(opened)
        system = extra.removeprefix(head).removesuffix(foot)
        opened = head + system + foot + opened
    own = [Message("system", "Zero."), *bare]
    if found != opened or _run_jinja(source, own, config) != _chatml(own) + "<|im_start|>assistant\n":
        raise Refusal("the tokenizer's chat_template is not ChatML, the one form that Palmier chats in")
    return system


def _chatml(messages: Iterable[Message]) -> str:
    return "".join(f"<|im_start|>{message.role}\n{message.content}<|im_end|>\n" for message in messages)


def _run_jinja(source: str, messages: Iterable[Message], config: dict[str, Any]) -> str:
    import jinja2
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    tokens = {name: config.get(name) or "" for name in ("bos_token", "eos_token", "pad_token", "unk_token")}
    plain = [{"role": message.role, "content": message.content} for message in messages]
    # The two switches are those that transformers renders templates with.
    environment = ImmutableSandboxedEnvironment(trim_blocks=True, lstrip_blocks=True)
    try:
        return environment.from_string(source).render(messages=plain, add_generation_prompt=True, **tokens)
    except (jinja2.TemplateError, TypeError) as error:
        raise Refusal(f"the tokenizer's chat_template cannot be run: {error}") from None
