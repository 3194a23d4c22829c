"""The values that travel between Palmier's rooms: frozen, JSON both ways, no torch."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any, Literal

from palmier.errors import Refusal

Role = Literal["system", "user", "assistant"]
Finish = Literal["stop", "length", "cancelled"]

MOST_RANKED = 9
"""Answers that one ranking orders, at most."""


@dataclass(frozen=True)
class Document:
    """One text, and where it came from (for example ``notes.md`` or ``posts.jsonl:12``)."""

    text: str
    source: str


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    content: str

    def __post_init__(self) -> None:
        if self.role not in ("system", "user", "assistant"):
            raise Refusal(f"role {self.role!r} is unknown: use system, user or assistant")
        if not isinstance(self.content, str):
            raise Refusal(f"a message's content must be text, not {type(self.content).__name__}")


@dataclass(frozen=True)
class Conversation:
    """Messages, oldest first. For an answer to be drawn the last one is the user's."""

    messages: tuple[Message, ...]

    @classmethod
    def ask(cls, prompt: str) -> Conversation:
        """A conversation of one question."""
        return cls((Message("user", prompt),))

    def reply(self, text: str) -> Conversation:
        """This conversation with an assistant's answer appended."""
        return Conversation((*self.messages, Message("assistant", text)))

    def to_json(self) -> list[dict[str, str]]:
        return [asdict(message) for message in self.messages]

    @classmethod
    def from_json(cls, value: Any) -> Conversation:
        """Read a list of ``{"role", "content"}``; raises Refusal where it is none."""
        if not isinstance(value, list) or not value:
            raise Refusal("a conversation is a non-empty list of {role, content}")
        messages = []
        for item in value:
            if not isinstance(item, dict) or set(item) != {"role", "content"}:
                raise Refusal("a message has exactly the keys role and content")
            messages.append(Message(item["role"], item["content"]))
        return cls(tuple(messages))


@dataclass(frozen=True)
class Sampling:
    """How tokens are drawn. Temperature 0 is greedy.

    Everything else is off as it stands here: top_k 0, top_p 1 and min_p 0 cut nothing, a repetition penalty of 1 and
    a presence or frequency penalty of 0 change nothing. ``logit_bias`` are (token id, what is added to its logit).
    What each does, and in which order, stands in ``generate.sampling``.
    """

    temperature: float = 1.0  # 0 takes the likeliest token, higher varies more
    top_k: int = 0  # draw among this many likeliest tokens; 0 cuts nothing
    top_p: float = 1.0  # draw among the likeliest tokens that hold this share; 1 cuts nothing
    max_tokens: int = 256  # longest answer, in tokens
    seed: int = 0  # what the draws are made of: equal seeds, equal answers
    min_p: float = 0.0  # draw among tokens of at least this share of the likeliest one's probability; 0 cuts nothing
    repetition_penalty: float = 1.0  # above 1: what stands in prompt or answer already becomes less likely
    presence_penalty: float = 0.0  # above 0: what the answer already used becomes less likely
    frequency_penalty: float = 0.0  # the same, as often as it was used
    logit_bias: tuple[tuple[int, float], ...] = ()  # token ids, and what is added to the logit of each

    def __post_init__(self) -> None:
        self._check_forms()
        if not 0.0 <= self.temperature <= 100.0:
            raise Refusal(f"temperature {self.temperature} is outside 0 … 100")
        if not 0 <= self.top_k < 2**31:
            raise Refusal(f"top_k {self.top_k} is outside 0 … {2**31 - 1}: 0 switches it off")
        if not 0.0 < self.top_p <= 1.0:
            raise Refusal(f"top_p {self.top_p} is outside (0, 1]")
        if self.max_tokens < 1:
            raise Refusal(f"max_tokens {self.max_tokens} must be at least 1")
        if not 0.0 <= self.min_p < 1.0:
            raise Refusal(f"min_p {self.min_p} is outside [0, 1): 0 switches it off")
        if not 0.0 < self.repetition_penalty <= 100.0:
            raise Refusal(f"repetition_penalty {self.repetition_penalty} is outside (0, 100]: 1 switches it off")
        for name in ("presence_penalty", "frequency_penalty"):
            if not -100.0 <= getattr(self, name) <= 100.0:
                raise Refusal(f"{name} {getattr(self, name)} is outside -100 … 100: 0 switches it off")
        for token, bias in self.logit_bias:
            if token < 0 or not -100.0 <= bias <= 100.0:
                raise Refusal(f"logit_bias {bias} of token {token}: token ids begin at 0, a bias lies in -100 … 100")
        if len({token for token, _ in self.logit_bias}) < len(self.logit_bias):
            raise Refusal("logit_bias names a token twice")

    def _check_forms(self) -> None:
        """Raise Refusal for what is no number: past this point a wrong one would end the engine's thread."""
        for one in fields(self):
            value, whole = getattr(self, one.name), one.type == "int"
            if one.type in ("int", "float") and (
                isinstance(value, bool) or not isinstance(value, int if whole else int | float)
            ):
                raise Refusal(f"{one.name} {value!r} is no {'whole ' * whole}number")
        try:
            biases = [(token, bias) for token, bias in self.logit_bias]
        except (TypeError, ValueError):
            raise Refusal("logit_bias must be pairs: a token id, and what is added to its logit") from None
        for token, bias in biases:
            if any(isinstance(one, bool) for one in (token, bias)) or not (
                isinstance(token, int) and isinstance(bias, int | float)
            ):
                raise Refusal(f"logit_bias {bias!r} of token {token!r}: a token id is a whole number, a bias a number")

    @property
    def faithful(self) -> bool:
        """Whether tokens are drawn from the model's own distribution at the temperature: what log-probs tell."""
        return self.temperature > 0 and replace(self, temperature=1.0, max_tokens=1, seed=0) == Sampling(max_tokens=1)

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Sampling:
        """Read what ``dataclasses.asdict`` wrote; fields that an older version did not know are off."""
        fields = _known(cls, value)
        fields["logit_bias"] = tuple((int(token), float(bias)) for token, bias in fields.get("logit_bias", ()))
        return cls(**fields)


@dataclass(frozen=True)
class Answer:
    """What a version said: the text, and the very token ids and log-probs that were drawn.

    ``tokens`` includes the end token where ``finish`` is "stop"; ``logprobs`` are natural
    logarithms under the distribution at the sampling temperature, before any cut. Both are
    empty for an answer that a person, a program or another server wrote: what trains from it encodes the text.
    ``version`` is then "" or, of another server, its model's name, @ and its address.
    """

    text: str
    version: str = ""
    tokens: tuple[int, ...] = ()
    logprobs: tuple[float, ...] = ()
    finish: Finish = "stop"
    sampling: Sampling = field(default_factory=Sampling)

    def to_json(self) -> dict[str, Any]:
        return asdict(self) | {"tokens": list(self.tokens), "logprobs": list(self.logprobs)}

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Answer:
        fields = _known(cls, value)
        fields["tokens"] = tuple(fields.get("tokens", ()))
        fields["logprobs"] = tuple(fields.get("logprobs", ()))
        if "sampling" in fields:
            fields["sampling"] = Sampling.from_json(fields["sampling"])
        return cls(**fields)


@dataclass(frozen=True)
class Ranking:
    """One person's order of K = 2 … 9 answers to one conversation.

    ``ranks[i]`` is the rank of ``answers[i]``, 1 = best, equal numbers are ties.
    ``shown[j]`` is the index of the answer that stood at place j on the screen.
    ``strength`` tells how much better the best one is: 1 slightly, 2 clearly, 3 strongly, 0 where nobody was asked.
    ``reason`` is what the person says of it, "" where nothing.
    """

    conversation: Conversation
    answers: tuple[Answer, ...]
    ranks: tuple[int, ...]
    all_bad: bool = False
    shown: tuple[int, ...] = ()
    annotator: str = ""
    milliseconds: int = 0
    strength: int = 0
    reason: str = ""

    def __post_init__(self) -> None:
        count = len(self.answers)
        if not 2 <= count <= MOST_RANKED:
            raise Refusal(f"a ranking orders 2 to {MOST_RANKED} answers, not {count}")
        if len(self.ranks) != count or any(r < 1 for r in self.ranks):
            raise Refusal(f"ranks must be {count} numbers from 1, got {list(self.ranks)}")
        if self.shown and sorted(self.shown) != list(range(count)):
            raise Refusal(f"shown must be an order of 0 … {count - 1}, got {list(self.shown)}")
        if self.strength not in (0, 1, 2, 3):
            raise Refusal(f"strength {self.strength!r} is none: 1 is slight, 2 clear, 3 strong, 0 not told")
        if not isinstance(self.reason, str):
            raise Refusal(f"a reason is text, not {type(self.reason).__name__}")

    def to_json(self) -> dict[str, Any]:
        return {
            "conversation": self.conversation.to_json(),
            "answers": [answer.to_json() for answer in self.answers],
            "ranks": list(self.ranks),
            "all_bad": self.all_bad,
            "shown": list(self.shown),
            "annotator": self.annotator,
            "milliseconds": self.milliseconds,
            "strength": self.strength,
            "reason": self.reason,
        }

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> Ranking:
        fields = _known(cls, value)
        fields["conversation"] = Conversation.from_json(fields.get("conversation"))
        fields["answers"] = tuple(Answer.from_json(item) for item in fields.get("answers", ()))
        for name in ("ranks", "shown"):
            fields[name] = tuple(fields.get(name, ()))
        return cls(**fields)


@dataclass(frozen=True)
class Label:
    """One person's thumb on a single answer: up where it is ``good``."""

    conversation: Conversation
    answer: Answer
    good: bool
    annotator: str = ""
    reason: str = ""


@dataclass(frozen=True)
class Demonstration:
    """What a person wrote as an answer; ``answer`` is the one that it is better than, where there is one."""

    conversation: Conversation
    text: str
    answer: Answer | None = None
    annotator: str = ""
    reason: str = ""

    def __post_init__(self) -> None:
        if not self.text.strip():
            raise Refusal("a better answer needs words: it is empty")
        if self.answer is not None and self.answer.text == self.text:
            raise Refusal("the better answer is the old one, word for word: change it first")

    def preference(self) -> Ranking | None:
        """The written text stands above the old answer; None where there was none."""
        if self.answer is None:
            return None
        pair = (Answer(self.text), self.answer)
        return Ranking(self.conversation, pair, (1, 2), annotator=self.annotator, reason=self.reason)


@dataclass(frozen=True)
class Comparison:
    """A pair out of a ranking: ``chosen`` stood strictly above ``rejected``."""

    conversation: Conversation
    chosen: Answer
    rejected: Answer


def _known(cls: type, value: Mapping[str, Any]) -> dict[str, Any]:
    names = set(cls.__dataclass_fields__)  # type: ignore[attr-defined]  # mypy has no type for "any dataclass"
    unknown = sorted(set(value) - names)
    if unknown:
        raise Refusal(f"unknown key {unknown[0]!r} in a {cls.__name__}: known are {sorted(names)}")
    return dict(value)
