"""`palmier serve`: the chat and ranking pages, and the API, on this machine."""

from __future__ import annotations

import errno
import os
import socket
import sys
import threading
import webbrowser
from pathlib import Path
from typing import Annotated, Literal

from cyclopts import Parameter

from palmier.errors import Refusal
from palmier.workspace import Workspace


def serve(
    *,
    port: int = 8000,
    home: Path | None = None,
    model: str | None = None,
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
) -> None:
    """Serve the chat and ranking pages, and the API, on this machine.

    Parameters
    ----------
    port
        Port on 127.0.0.1; 0 takes a free one.
    home
        Folder of versions and rankings; by default $PALMIER_HOME or ~/.palmier. A new one begins
        with the embedded model, SmolLM2-135M-Instruct.
    model
        Let this one answer from now on: a version (0002), a name that `palmier models` lists, a model's or a
        run's folder, a .gguf file or a repository of the hub.
    precision
        Number format of the weights; auto takes what is quickest here. int8 needs a quarter of fp32's memory.
    browser
        Open the chat page in the browser, where there is one.
    """
    listener = listen(port)
    workspace = Workspace(home.expanduser()) if home else Workspace.default()
    # torch takes a second to import: the port is checked before, so that a refusal is quick.
    from palmier.serve.app import Server, open_home

    serving = open_home(workspace, model, precision)
    version = serving.versions.get(serving.live.state.current)
    address = f"http://127.0.0.1:{listener.getsockname()[1]}"
    kind = f"version {version.name}, {serving.live.state.precision}"
    print(f"Palmier: {version.label} ({kind}) answers at {address} — ranking at {address}/rank")
    print("Ctrl-C ends it.", flush=True)
    # The listener holds connections in its queue already, so the browser may come at once.
    if browser and has_screen():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    Server(serving).run(sockets=[listener])


def listen(port: int) -> socket.socket:
    """A socket bound to the port on loopback. Raises Refusal naming the port where that can't be."""
    if not 0 <= port <= 65535:
        raise Refusal(f"port {port} is none: choose one from 1 to 65535, for example --port 8000")
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        # At once: two sockets may be bound to one port as long as neither listens.
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else port - 1
            raise Refusal(f"port {port} is in use: take another one with --port {other}") from None
        raise Refusal(f"port {port} can't be used ({error.strerror}): take another one with --port 8000") from None
    return listener


def has_screen() -> bool:
    """Whether a browser window can open: elsewhere a text browser would take the terminal over."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
