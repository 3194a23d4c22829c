"""Embeddings in OpenAI's shape: the mean of a decoder's last hidden states over a text's tokens.

A decoder learns to continue texts, not to place like texts near one another: models trained for that do it better.
"""

from __future__ import annotations

import base64
import struct
from collections.abc import Generator, Sequence
from typing import Annotated, Any, Literal, NamedTuple

import torch
from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response
from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidatorFunctionWrapHandler, field_validator
from pydantic_core import PydanticCustomError
from torch import Tensor

from palmier.errors import TOO_LONG, Refusal
from palmier.model.cache import KVCache
from palmier.model.decoder import Decoder
from palmier.serve.loading import Loaded
from palmier.serve.serving import Given, check_version, engines, unless_gone

router = APIRouter(prefix="/v1")

MOST_INPUTS = 2048
"""Texts of one request."""

SLICE = 512
"""Tokens, padding included, that are computed between two steps of the engine: what it reads of a prompt at a time."""

CHARACTERS = 50_000
"""Characters that are encoded between two steps of the engine."""

_ROUND = 16
"""Widths in bf16 are multiples of it: oneDNN makes and keeps a kernel for every shape that it meets."""

Token = Annotated[int, Field(strict=True, ge=0)]
Tokens = Annotated[list[Token], Field(min_length=1)]
Text = Annotated[str, Field(min_length=1)]


class Embeddings(BaseModel):
    """The body of a request for embeddings."""

    model_config = ConfigDict(extra="forbid")
    input: (
        Text
        | Tokens
        | Annotated[list[Text], Field(min_length=1, max_length=MOST_INPUTS)]
        | Annotated[list[Tokens], Field(min_length=1, max_length=MOST_INPUTS)]
    )
    model: str | None = None
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Annotated[int, Field(strict=True)] | None = None
    user: str = ""

    @field_validator("input", mode="wrap")
    @classmethod
    def _say_what_it_is(cls, value: Any, handler: ValidatorFunctionWrapHandler) -> Any:
        try:
            return handler(value)
        except ValidationError:  # one sentence for a person instead of what each form of input would have wanted
            wanted = f"a text, token ids, or a list of up to {MOST_INPUTS} of either; none may be empty"
            raise PydanticCustomError("input_form", "{wanted}", {"wanted": wanted}) from None

    def inputs(self) -> list[str | list[int]]:
        if isinstance(self.input, str):
            return [self.input]
        if isinstance(self.input[0], int):
            return [[one for one in self.input if isinstance(one, int)]]
        return [one for one in self.input if not isinstance(one, int)]


class Embedded(NamedTuple):
    """``vectors`` (inputs, D) in fp32, how many tokens they were made of, and by which version."""

    vectors: Tensor
    tokens: int
    version: str


@router.post("/embeddings")
async def embeddings(serving: Given, request: Request, body: Embeddings) -> Response:
    """A vector for each input, in order."""
    version = check_version(serving, body.model)
    inputs = body.inputs()
    work = engines(serving).work(lambda loaded: embed(loaded, inputs, body.dimensions), version)
    found = await unless_gone(request, work)
    if found is None:
        return Response(status_code=499)  # nobody is there to read it
    data = [
        {"object": "embedding", "index": index, "embedding": _written(vector, body.encoding_format)}
        for index, vector in enumerate(found.vectors.tolist())
    ]
    usage = {"prompt_tokens": found.tokens, "total_tokens": found.tokens}
    return JSONResponse({"object": "list", "data": data, "model": found.version, "usage": usage})


def embed(
    loaded: Loaded, inputs: Sequence[str | Sequence[int]], dimensions: int | None = None
) -> Generator[None, None, Embedded]:
    """A job: encode the texts, then average the hidden states of each. Raises Refusal naming the input that is wrong."""
    width = loaded.decoder.config.hidden_size
    if dimensions not in (None, width):
        raise Refusal(f"dimensions {dimensions}: the vectors of version {loaded.version.name} have {width}, uncut")
    rows: list[list[int]] = []
    characters = 0
    for index, given in enumerate(inputs):
        ids = loaded.template.tokenizer.encode(given) if isinstance(given, str) else list(given)
        _check(loaded, ids, index)
        rows.append(ids)
        characters += len(given)
        if characters > CHARACTERS:
            characters = 0
            yield
    vectors = torch.empty(len(rows), width)
    for batch in _batches(rows):
        yield from _fill(vectors, batch, [rows[index] for index in batch], loaded.decoder)
    if not bool(torch.isfinite(vectors).all()):
        raise Refusal(f"version {loaded.version.name} gave numbers that are none: its weights are damaged")
    return Embedded(vectors, sum(map(len, rows)), loaded.version.name)


def _check(loaded: Loaded, ids: list[int], index: int) -> None:
    context, vocabulary = loaded.engine.context, loaded.decoder.config.vocab_size
    if not ids:
        raise Refusal(f"input {index} holds no token: leave it out", "input")
    if len(ids) > context:
        sentence = f"input {index} has {len(ids)} tokens and the context holds {context}: shorten it, or cut it up"
        raise Refusal(sentence, "input", TOO_LONG)
    if max(ids) >= vocabulary:
        raise Refusal(f"input {index} has the token {max(ids)}, outside the vocabulary 0 … {vocabulary - 1}", "input")


def _batches(rows: Sequence[Sequence[int]]) -> Generator[list[int], None, None]:
    """Indices of texts that fill a slice together, those of like length; a longer text is alone."""
    batch: list[int] = []
    for index in sorted(range(len(rows)), key=lambda index: -len(rows[index])):
        if batch and (len(batch) + 1) * _width(len(rows[batch[0]])) > SLICE:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch


def _width(length: int) -> int:
    return -(-length // _ROUND) * _ROUND


def _fill(vectors: Tensor, places: list[int], rows: list[list[int]], decoder: Decoder) -> Generator[None, None, None]:
    """Write each row's mean hidden state into its place, a slice at a time."""
    config, device = decoder.config, decoder.model.norm.weight.device
    longest = len(rows[0])
    width = min(_width(longest), config.max_positions)
    # A cache of its own, one page a text: what a long text's first part computed is read by its next part.
    cache = KVCache(config, len(rows), width, decoder.dtype, device)
    # Right padding is harmless: causal attention never looks there, and the mean leaves it out.
    tokens_BT = torch.tensor([row + [0] * (width - len(row)) for row in rows], device=device)
    lengths_B = torch.tensor([len(row) for row in rows], device=device)
    sums_BD = torch.zeros(len(rows), config.hidden_size, device=device)
    for start in range(0, width, SLICE):
        part_BT = tokens_BT[:, start : start + SLICE]
        positions_BT = torch.arange(start, start + part_BT.shape[1], device=device).expand_as(part_BT)
        with torch.inference_mode():
            hidden_BTD = decoder(part_BT, positions_BT, cache=cache).float()
            sums_BD += (hidden_BTD * (positions_BT < lengths_B.unsqueeze(1)).unsqueeze(-1)).sum(1)
        yield
    vectors[places] = (sums_BD / lengths_B.unsqueeze(1)).cpu()


def _written(vector: list[float], encoding: str) -> Any:
    """The numbers, or their little-endian fp32 bytes in base64."""
    if encoding == "float":
        return vector
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode("ascii")
