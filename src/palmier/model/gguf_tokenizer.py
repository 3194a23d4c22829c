"""A GGUF's tokenizer as tokenizer.json and tokenizer_config.json, and the way back.

Byte-level BPE alone (GGUF's model ``gpt2``). What decides the ids beside vocabulary and merges is how a
text is cut into words; GGUF says it by a name, which llama.cpp knows the patterns of. The names here are
those whose patterns give the same ids in both.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, pre_tokenizers, processors

from palmier.errors import Refusal
from palmier.workspace import read_json

NORMAL, CONTROL, USER_DEFINED, UNUSED = 1, 3, 4, 5
"""GGUF's types of tokens: out of text, special, added but plain text, and a row without a token."""

_IDS = {"bos": "bos", "eos": "eos", "unk": "unknown", "pad": "padding"}
"""The special tokens of a tokenizer_config.json, and what GGUF calls them."""

_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}%s"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""The pattern of Llama 3's and Qwen's tokenizers, which differ in how many digits make a word."""


def _by_pattern(pattern: str) -> pre_tokenizers.PreTokenizer:
    split = pre_tokenizers.Split(Regex(pattern), "isolated")
    return pre_tokenizers.Sequence([split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])


def _gpt2() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.ByteLevel(add_prefix_space=False)


def _single_digits() -> pre_tokenizers.PreTokenizer:
    return pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), _gpt2()])


def _llama3() -> pre_tokenizers.PreTokenizer:
    return _by_pattern(_WORDS % "{1,3}")


def _qwen2() -> pre_tokenizers.PreTokenizer:
    return _by_pattern(_WORDS % "")


PRE_TOKENIZERS: dict[str, Callable[[], pre_tokenizers.PreTokenizer]] = {
    "gpt-2": _gpt2,
    "command-r": _single_digits,
    "smollm": _single_digits,
    "llama-bpe": _llama3,
    "qwen2": _qwen2,
}
"""By ``tokenizer.ggml.pre``; of two that do the same the first is written."""


def build(values: Mapping[str, Any], rows: int) -> Tokenizer:
    """The tokenizer that a GGUF's metadata describe; ``rows`` are those of the embedding.

    Raises Refusal for another kind than byte-level BPE, KeyError for metadata that are missing.
    """
    kind, pre = values.get("tokenizer.ggml.model"), values.get("tokenizer.ggml.pre")
    if kind == "llama":
        raise Refusal("the tokenizer is SentencePiece ('llama'): Palmier reads byte-level BPE ('gpt2') alone")
    if kind != "gpt2":
        raise Refusal(f"the tokenizer is of kind {kind!r}: Palmier reads byte-level BPE ('gpt2') alone")
    if not isinstance(pre, str) or pre not in PRE_TOKENIZERS:
        raise Refusal(f"the tokenizer cuts words as {pre!r}: Palmier knows {', '.join(PRE_TOKENIZERS)}")
    tokens, kinds = values["tokenizer.ggml.tokens"], values["tokenizer.ggml.token_type"]
    if len(kinds) != len(tokens):
        raise Refusal(f"the tokenizer has {len(tokens)} tokens and {len(kinds)} token types")
    real = {token: i for i, (token, kind) in enumerate(zip(tokens, kinds, strict=True)) if kind != UNUSED}
    if len(real) < len(tokens) - kinds.count(UNUSED):
        raise Refusal("the tokenizer has two tokens of the same text")
    if max(real.values(), default=-1) >= rows:
        raise Refusal(f"the tokenizer has {max(real.values()) + 1} tokens and the embedding {rows} rows")
    merges = [tuple(merge.split(" ")) for merge in values["tokenizer.ggml.merges"]]
    try:
        # Llama 3's words that are tokens themselves are taken whole, whatever the merges would make of them.
        tokenizer = Tokenizer(models.BPE(vocab=real, merges=merges, ignore_merges=pre == "llama-bpe"))
    except Exception as error:  # noqa: BLE001  # the library raises bare Exception for merges that do not fit
        raise Refusal(f"the tokenizer's merges do not fit its tokens: {error}") from None
    tokenizer.pre_tokenizer = PRE_TOKENIZERS[pre]()
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.ByteLevel(trim_offsets=False)
    added = {kind: [token for token, i in real.items() if kinds[i] == kind] for kind in (CONTROL, USER_DEFINED)}
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in added[CONTROL]])
    tokenizer.add_tokens([AddedToken(token, special=False, normalized=False) for token in added[USER_DEFINED]])
    bos = values.get("tokenizer.ggml.bos_token_id")
    if values.get("tokenizer.ggml.add_bos_token", pre == "llama-bpe") and bos is not None:
        first = tokens[bos]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=[first, "$A"], pair=[first, "$A", first, "$B"], special_tokens=[(first, bos)]
        )
    return tokenizer


def settings(values: Mapping[str, Any], positions: int) -> dict[str, Any]:
    """The content of tokenizer_config.json, with chat template and special tokens."""
    tokens = values["tokenizer.ggml.tokens"]
    ids = {f"{key}_token": values.get(f"tokenizer.ggml.{name}_token_id") for key, name in _IDS.items()}
    outside = next((f"{key} {i}" for key, i in ids.items() if i is not None and i >= len(tokens)), None)
    if outside:
        raise Refusal(f"the tokenizer's {outside} is none of its {len(tokens)} tokens")
    template = values.get("tokenizer.chat_template")
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "add_prefix_space": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": positions,
        **{key: tokens[token] for key, token in ids.items() if token is not None},
        **({} if template is None else {"chat_template": template}),
    }


def describe(folder: Path, rows: int) -> dict[str, Any]:
    """A folder's tokenizer as GGUF's metadata, one token for each of the embedding's ``rows``.

    Raises Refusal where llama.cpp has no pre-tokenizer that gives the same ids.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        raise Refusal(f"{path} is missing")
    try:
        tokenizer = Tokenizer.from_file(str(path))
    except Exception as error:  # noqa: BLE001  # the library raises bare Exception for a bad file
        raise Refusal(f"{path} is no tokenizer: {error}") from None
    stored = json.loads(tokenizer.to_str())
    name = _name_of(path, stored)
    tokens, kinds = _tokens(path, tokenizer, rows)
    config = read_json(folder / "tokenizer_config.json")
    if not isinstance(config, dict):
        raise Refusal(f"{folder / 'tokenizer_config.json'} is no JSON object")
    ids = {key: tokenizer.token_to_id(text) for key in _IDS if (text := _text(config.get(f"{key}_token")))}
    ids = {key: token for key, token in ids.items() if token is not None}
    if "eos" not in ids:
        raise Refusal(f"{folder / 'tokenizer_config.json'} names no eos_token: llama.cpp would not know where to stop")
    first = tokenizer.encode("", add_special_tokens=True).ids
    # Where a file names no first token, llama.cpp takes number 11, GPT-2's: so one is named and not added.
    ids.setdefault("bos", ids["eos"])
    values: dict[str, Any] = {
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": name,
        "tokenizer.ggml.tokens": tokens,
        "tokenizer.ggml.token_type": kinds,
        "tokenizer.ggml.merges": [m if isinstance(m, str) else " ".join(m) for m in stored["model"]["merges"]],
        "tokenizer.ggml.add_bos_token": bool(first) and first[0] == ids["bos"],
        **{f"tokenizer.ggml.{_IDS[key]}_token_id": token for key, token in ids.items()},
    }
    template = _chat_template(folder, config)
    return values if template is None else values | {"tokenizer.chat_template": template}


def _name_of(path: Path, stored: dict[str, Any]) -> str:
    """The name of the pre-tokenizer that gives the same ids; raises Refusal where there is none."""
    model = stored["model"]
    if model.get("type") != "BPE" or (stored.get("decoder") or {}).get("type") != "ByteLevel":
        raise Refusal(f"{path} is not byte-level BPE, the one kind that is exported")
    if model.get("dropout") or model.get("continuing_subword_prefix") or model.get("end_of_word_suffix"):
        raise Refusal(f"{path} asks for dropout, prefixes or suffixes, which llama.cpp's BPE has not")
    # NFC is Qwen's: llama.cpp runs Qwen without it, so texts that are not composed differ there.
    if (stored.get("normalizer") or {"type": "NFC"}).get("type") != "NFC":
        raise Refusal(f"{path} changes texts before it cuts them ({stored['normalizer']['type']}): llama.cpp does not")
    for name, make in PRE_TOKENIZERS.items():
        same = _bare(stored["pre_tokenizer"]) == _bare(json.loads(make().__getstate__()))
        if same and bool(model.get("ignore_merges")) == (name == "llama-bpe"):
            return name
    raise Refusal(f"{path} cuts words as no pre-tokenizer of llama.cpp that Palmier knows: {', '.join(PRE_TOKENIZERS)}")


def _bare(value: Any) -> Any:
    """A pre-tokenizer's description without what decides offsets alone."""
    if isinstance(value, dict):
        return {key: _bare(item) for key, item in value.items() if key != "trim_offsets"}
    return [_bare(item) for item in value] if isinstance(value, list) else value


def _tokens(path: Path, tokenizer: Tokenizer, rows: int) -> tuple[list[str], list[int]]:
    """A text and a type for each row; rows without a token are filled."""
    vocabulary = {number: token for token, number in tokenizer.get_vocab(with_added_tokens=True).items()}
    if max(vocabulary) >= rows:
        raise Refusal(f"{path} has ids up to {max(vocabulary)}, and the model's embedding {rows} rows")
    added = tokenizer.get_added_tokens_decoder()
    tokens, kinds = [], []
    for number in range(rows):
        token = vocabulary.get(number)
        tokens.append(f"[PAD{number}]" if token is None else token)
        if token is None:
            kinds.append(UNUSED)
        elif number in added:
            kinds.append(CONTROL if added[number].special else USER_DEFINED)
        else:
            kinds.append(NORMAL)
    return tokens, kinds


def _text(token: Any) -> str | None:
    """A special token as tokenizer_config.json writes it: its text, or an object with it."""
    token = token.get("content") if isinstance(token, dict) else token
    return token if isinstance(token, str) else None


def _chat_template(folder: Path, config: dict[str, Any]) -> str | None:
    jinja = folder / "chat_template.jinja"
    try:
        template = jinja.read_text("utf-8") if jinja.is_file() else config.get("chat_template")
    except UnicodeDecodeError as error:
        raise Refusal(f"{jinja} is not UTF-8: {error.reason} at byte {error.start}") from None
    return template if isinstance(template, str) else None
