"""What OpenAI's two completions, of conversations and of plain text, have in common: fields, reading, numbers told."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field
from pydantic_core import PydanticCustomError

from palmier.errors import Refusal
from palmier.records import Finish, Sampling
from palmier.serve.chat import fresh_seed
from palmier.serve.fields import Fields

MOST_ANSWERS = 16
MOST_STOPS = 16
MOST_TOP_LOGPROBS = 20

LOWEST = -9999.0
"""The log-prob that is told of a token that can't come, as OpenAI tells it: JSON has no -∞."""

FINISHES: dict[Finish, str] = {"stop": "stop", "length": "length", "cancelled": "stop"}

# A text is no number and a number is no switch: what a client got wrong is told, not guessed.
Whole = Annotated[int, Field(strict=True)]
Real = Annotated[float, Field(strict=True, allow_inf_nan=False)]
Switch = Annotated[bool, Field(strict=True)]

# The ranges are those of `Sampling`, which refuses what is outside of them too: here they stand in the schema.
Temperature = Annotated[Real, Field(ge=0, le=100)]
Share = Annotated[Real, Field(gt=0, le=1)]
Lowering = Annotated[Real, Field(ge=-100, le=100)]


def _stops(value: Any) -> Any:
    strings = [value] if isinstance(value, str) else value
    if not isinstance(strings, list) or len(strings) > MOST_STOPS or not all(isinstance(one, str) for one in strings):
        raise PydanticCustomError("stop", "give a text, or a list of up to {most} texts", {"most": MOST_STOPS})
    return strings


class StreamOptions(BaseModel):
    model_config = ConfigDict(extra="forbid")
    include_usage: Switch = False


class Completed(Fields):
    """The fields of both; a subclass says in ``neutral`` which others may come with a value that asks for nothing."""

    model: str | None = None
    stream: Switch = False
    stream_options: StreamOptions | None = None
    temperature: Temperature = 1.0
    top_p: Share = 1.0
    top_k: Annotated[Whole, Field(ge=0, lt=2**31)] = 0
    min_p: Annotated[Real, Field(ge=0, lt=1)] = 0.0
    repetition_penalty: Annotated[Real, Field(gt=0, le=100)] = 1.0
    presence_penalty: Lowering = 0.0
    frequency_penalty: Lowering = 0.0
    logit_bias: dict[Annotated[int, Field(ge=0)], Lowering] = Field(default_factory=dict)
    seed: Annotated[Whole, Field(ge=-(2**63), lt=2**63)] | None = None
    n: Annotated[Whole, Field(ge=1, le=MOST_ANSWERS)] = 1
    stop: Annotated[list[str], BeforeValidator(_stops, json_schema_input_type=str | list[str])] = Field(
        default_factory=list
    )
    user: str = ""
    return_token_ids: Switch = False

    def sampling(self, max_tokens: int) -> Sampling:
        """Raises Refusal where a number is out of its range."""
        return Sampling(
            temperature=self.temperature,
            top_k=self.top_k,
            top_p=self.top_p,
            max_tokens=max_tokens,
            seed=fresh_seed() if self.seed is None else self.seed,
            min_p=self.min_p,
            repetition_penalty=self.repetition_penalty,
            presence_penalty=self.presence_penalty,
            frequency_penalty=self.frequency_penalty,
            logit_bias=tuple(sorted(self.logit_bias.items())),
        )

    def with_usage(self) -> bool:
        """Whether a stream ends with the usage. Raises Refusal where there are options for a stream and no stream."""
        if self.stream_options is not None and not self.stream:
            sentence = "stream_options needs stream: set it to true, or leave stream_options out"
            raise Refusal(sentence, "stream_options")
        return self.stream_options is not None and self.stream_options.include_usage


def finite(logprob: float) -> float:
    """A log-prob as JSON can hold it."""
    return max(logprob, LOWEST)


def usage(prompt: int, drawn: int) -> dict[str, int]:
    return {"prompt_tokens": prompt, "completion_tokens": drawn, "total_tokens": prompt + drawn}
