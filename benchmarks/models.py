"""The models that are measured: SmolLM2 in each program's format, and random ones of other sizes."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path

from palmier.model.checkpoint import save
from palmier.model.config import ModelConfig
from palmier.model.decoder import Decoder
from palmier.model.gguf import embedded_model, packaged_file
from palmier.model.gguf_export import export_gguf
from palmier.workspace import Workspace


@dataclass(frozen=True)
class Model:
    """A Hugging Face folder, and the same weights as GGUF files by their type."""

    name: str
    folder: Path
    parameters: int = 0
    ggufs: dict[str, Path] = field(default_factory=dict)


def smollm2(work: Path) -> Model:
    """SmolLM2-135M-Instruct: the packaged Q4_1 file, and BF16 written by `palmier export`."""
    folder = embedded_model(Workspace.default())
    wide = work / "smollm2-bf16.gguf"
    if not wide.is_file():
        work.mkdir(parents=True, exist_ok=True)
        export_gguf(folder, wide, "bf16")
    return Model("SmolLM2-135M-Instruct", folder, ggufs={"Q4_1": packaged_file(), "BF16": wide})


def random_models(like: Model) -> list[Model]:
    """PaLMs of random weights over the same vocabulary: (layers, width) from small to larger than SmolLM2."""
    made = []
    for layers, width in ((4, 256), (8, 512), (16, 768), (24, 1024)):
        config = ModelConfig.palm(49152, width, layers, width // 64)
        folder = like.ggufs["BF16"].parent / f"palm-{layers}x{width}"
        if not folder.is_dir():
            folder.mkdir(parents=True)
            save(Decoder.create(config, seed=1), folder)
            shutil.copyfile(like.folder / "tokenizer.json", folder / "tokenizer.json")
        made.append(
            Model(f"PaLM {layers} × {width}", folder, sum(weight.numel() for weight in Decoder(config).parameters()))
        )
    return made
