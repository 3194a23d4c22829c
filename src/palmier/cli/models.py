"""`palmier fetch`: have the embedded model in the home."""

from __future__ import annotations


def fetch() -> None:
    """Prepare the embedded model, SmolLM2-135M-Instruct, in the home (once; no network is needed)."""
    from palmier.model.gguf import embedded_model
    from palmier.workspace import Workspace

    print(embedded_model(Workspace.default()))
