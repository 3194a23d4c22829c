"""llama.cpp, through xllamacpp: an independent reader of the GGUF files that are written here."""

from __future__ import annotations

import json
import urllib.request
from pathlib import Path
from typing import Any

import pytest
import torch


class LlamaCpp:
    """One GGUF in llama.cpp's server, on one thread, its keys and values in fp32; ``endless``: it writes past its context."""

    def __init__(self, path: Path, endless: bool = False) -> None:
        library = pytest.importorskip("xllamacpp", reason="llama.cpp runs through it")
        params = library.CommonParams()
        params.model.path = str(path)
        params.n_ctx, params.n_parallel, params.verbosity, params.warmup = 256, 1, -1, False
        params.cpuparams.n_threads = params.cpuparams_batch.n_threads = 1
        params.cache_type_k = params.cache_type_v = library.ggml_type.GGML_TYPE_F32
        params.flash_attn_type = library.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.fit_params, params.ctx_shift = False, endless
        self._server = library.Server(params)

    @property
    def address(self) -> str:
        """Where it listens."""
        return str(self._server.listening_address)

    def ask(self, path: str, body: dict[str, Any]) -> Any:
        request = urllib.request.Request(
            self.address + path, json.dumps(body).encode(), {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=60) as answer:
            return json.load(answer)

    def tokenize(self, text: str, *, special: bool = False, start: bool = False) -> list[int]:
        found = self.ask("/tokenize", {"content": text, "parse_special": special, "add_special": start})
        return list(found["tokens"])

    def greedy(self, prompt: list[int], count: int) -> list[int]:
        settings = {"n_predict": count, "temperature": 0, "top_k": 1, "return_tokens": True, "cache_prompt": False}
        return list(self.ask("/completion", {"prompt": prompt, **settings})["tokens"])

    def logprobs(self, prompt: list[int], vocabulary: int, best: int | None = None) -> torch.Tensor:
        """ln p of every token after the prompt, or of the ``best`` likeliest, and -inf of the others."""
        # Drawn is always "a": an end token or half a character would bring no probabilities. Told are those before.
        settings = {"n_predict": 1, "n_probs": best or vocabulary, "temperature": 0, "logit_bias": [["a", 1e6]]}
        found = self.ask("/completion", {"prompt": prompt, **settings})["completion_probabilities"][0]
        result = torch.full((vocabulary,), -torch.inf)
        for entry in found["top_logprobs"]:
            result[entry["id"]] = entry["logprob"]
        return result

    def chat(self, messages: list[dict[str, str]]) -> str:
        """The prompt that the file's chat template makes of messages."""
        return str(self.ask("/apply-template", {"messages": messages})["prompt"])
