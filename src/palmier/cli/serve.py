"""`palmier serve`: the chat and ranking pages, and the API, on this machine or, with a key, for others."""

from __future__ import annotations

import errno
import math
import os
import socket
import sys
import threading
import webbrowser
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from cyclopts import Parameter

from palmier.errors import Refusal
from palmier.workspace import Workspace

if TYPE_CHECKING:
    from palmier.serve.guard import Access
    from palmier.serve.remote import Remote
    from palmier.serve.serving import Serving


@dataclass(frozen=True)
class Other:
    """Another server that answers.

    Parameters
    ----------
    backend
        Let another server that speaks OpenAI's API answer, for example http://127.0.0.1:8080; no model is loaded here.
    backend_key
        That server's key; by default $PALMIER_BACKEND_KEY, which other programs of this machine can't read.
    backend_seconds
        Longest silence of that server before its answer is given up; by default 300.
    """

    backend: str | None = None
    backend_key: str | None = None
    backend_seconds: float | None = None

    def remote(self, model: str | None, precision: str) -> Remote | None:
        """The server, None where the model is one of ours. Raises Refusal for options that do not go together."""
        if self.backend is None:
            if self.backend_key is not None or self.backend_seconds is not None:
                raise Refusal("--backend-key and --backend-seconds belong to --backend URL: give it, or leave them out")
            return None
        if model is not None:
            raise Refusal("--backend and --model: another server answers, or a model here; give one of the two")
        if precision != "auto":
            raise Refusal("--precision says how weights are held here, and none are with --backend: leave it out")
        seconds = self.backend_seconds
        if seconds is not None and not 0 < seconds < math.inf:
            raise Refusal(f"--backend-seconds {seconds}: give a number above 0, or leave it out")
        key = os.environ.get("PALMIER_BACKEND_KEY") if self.backend_key is None else self.backend_key
        if key == "":
            raise Refusal("the backend's key is empty: give one to --backend-key or PALMIER_BACKEND_KEY, or neither")
        from palmier.serve.remote import SILENCE, Remote

        return Remote(self.backend, key or "", seconds or SILENCE)


def serve(
    *,
    port: int = 8000,
    home: Path | None = None,
    model: str | None = None,
    precision: Literal["auto", "fp32", "bf16", "int8"] = "auto",
    host: str = "127.0.0.1",
    api_key: Annotated[str | None, Parameter(env_var="PALMIER_API_KEY")] = None,
    allow_host: Annotated[list[str] | None, Parameter(negative="")] = None,
    request_seconds: float | None = None,
    database: str = "",
    other: Annotated[Other | None, Parameter(name="*")] = None,
    browser: Annotated[bool, Parameter(negative="--no-browser")] = True,
) -> None:
    """Serve the chat and ranking pages, and the API, on this machine.

    Parameters
    ----------
    port
        Port; 0 takes a free one.
    home
        Folder of versions and feedback; by default $PALMIER_HOME or ~/.palmier. A new one begins with SmolLM2-135M-Instruct.
    model
        Let this one answer from now on: a version (0002), a name that `palmier models` lists, a model's or a
        run's folder, a .gguf file or a repository of the hub.
    precision
        Number format of the weights; auto takes what is quickest here. int8 needs a quarter of fp32's memory.
    host
        Address to listen on: 0.0.0.0 is every one of this machine. Anything but loopback demands a key.
    api_key
        What every request but /health must bring, as a bearer token or x-api-key; the page asks for it once. Other
        programs of this machine can read the command line: $PALMIER_API_KEY is better.
    allow_host
        A further name under which the server is reached, for example that of a proxy before it; repeatable. Demands a key.
    request_seconds
        Longest time that one answer may be drawn; what was said until then is the answer, cut. By default there is none.
    database
        Keep conversations and feedback in PostgreSQL: postgresql://USER@HOST/NAME; by default $PALMIER_DATABASE or a file.
    browser
        Open the chat page in the browser, where there is one.
    """
    access = allowed(host, api_key, allow_host or [])
    if request_seconds is not None and not 0 < request_seconds < math.inf:
        raise Refusal(f"--request-seconds {request_seconds}: give a number above 0, or leave it out")
    remote = (other or Other()).remote(model, precision)
    listener = listen(port, host)
    workspace = Workspace.at(home)
    # torch takes a second to import: the port is checked before, so that a refusal is quick.
    from palmier.serve.app import Server, open_backend, open_home

    serving = open_backend(workspace, remote, database) if remote else open_home(workspace, model, precision, database)
    serving.live.request_seconds = request_seconds
    address = f"http://{reached_at(host)}:{listener.getsockname()[1]}"
    announce(serving, address)
    # The listener holds connections in its queue already, so the browser may come at once.
    if browser and has_screen():
        threading.Thread(target=webbrowser.open, args=(address,), daemon=True).start()
    Server(serving, access).run(sockets=[listener])


def announce(serving: Serving, address: str) -> None:
    """Tell who answers, and where."""
    state = serving.live.state
    version = serving.versions.get(state.current)
    kind = "another server's model" if state.backend else f"version {version.name}, {state.precision}"
    print(f"Palmier: {version.label} ({kind}) answers at {address} — ranking at {address}/rank")
    print("Ctrl-C ends it.", flush=True)


def allowed(host: str, key: str | None, names: list[str]) -> Access:
    """Who may reach a server at this address. Raises Refusal where it would be open to others without a key."""
    # A light module: a refusal comes before torch is imported.
    from palmier.serve.guard import Access

    if key == "":
        raise Refusal("the API key is empty: give one to --api-key or PALMIER_API_KEY, or leave both out")
    return Access(host, key or "", tuple(names))


def reached_at(host: str) -> str:
    """The name in an address of this machine under which a server that listens at ``host`` is reached."""
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"[{name}]" if ":" in name else name


def listen(port: int, host: str = "127.0.0.1") -> socket.socket:
    """A socket bound to the port at an address. Raises Refusal naming what can't be used."""
    if not 0 <= port <= 65535:
        raise Refusal(f"port {port} is none: choose one from 1 to 65535, for example --port 8000")
    try:
        family, kind, *_, place = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)[0]
    except OSError as error:
        raise Refusal(f"--host {host} is no address of this machine ({error.strerror})") from None
    listener = socket.socket(family, kind)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(place)
        # At once: two sockets may be bound to one port as long as neither listens.
        listener.listen(128)
    except OSError as error:
        listener.close()
        if error.errno == errno.EADDRINUSE:
            other = port + 1 if port < 65535 else port - 1
            raise Refusal(f"port {port} is in use: take another one with --port {other}") from None
        if error.errno == errno.EADDRNOTAVAIL:
            raise Refusal(
                f"--host {host} is no address of this machine: leave it out, or give one of its own"
            ) from None
        raise Refusal(f"port {port} can't be used ({error.strerror}): take another one with --port 8000") from None
    return listener


def has_screen() -> bool:
    """Whether a browser window can open: elsewhere a text browser would take the terminal over."""
    if sys.platform.startswith("linux"):
        return bool(os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"))
    return True
