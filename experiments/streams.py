"""A client in a process of its own, so that what it costs is not the server's: it asks as it is told to, and notes times.

    python -m experiments.streams        one JSON object a line in, one a line out

``{"url", "bodies": […]}`` sends every body at once to /v1/chat/completions and answers with a `Stream` for each;
with ``"patience": N`` whoever is refused for want of room comes again after Retry-After, N seconds long.
``{"url", "probe": SECONDS}`` asks for /health again and again and answers with the seconds that each took, until
another line comes in or the time is over. Times are those of the machine's monotonic clock, which processes share.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any
from urllib.parse import urlsplit

BETWEEN_PROBES = 0.02
"""Seconds from one look at /health to the next."""

LONGEST = 240.0
"""Seconds after which a stream that has not ended counts as lost."""


@dataclass
class Stream:
    """One answer as it arrived. ``end``: "done", "refused" (429, or 503 with Retry-After), or what it was instead."""

    asked: float = 0.0
    pieces: list[float] = field(default_factory=list)
    """When each piece of text came."""
    end: str = "lost"
    refusals: int = 0


async def stream(url: str, body: dict[str, Any], patience: float) -> Stream:
    found = Stream(time.monotonic())
    until = found.asked + patience
    while True:
        try:
            async with asyncio.timeout(LONGEST):
                wait = await _once(url, body, found)
        except (TimeoutError, OSError, asyncio.IncompleteReadError) as error:
            found.end = f"lost: {type(error).__name__}"
            return found
        if found.end != "refused" or time.monotonic() > until:
            return found
        found.refusals += 1
        await asyncio.sleep(wait)


async def _once(url: str, body: dict[str, Any], found: Stream) -> float:
    """Ask once; returns Retry-After where there is no room."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port, limit=1 << 20)
    content = json.dumps(body).encode()
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {parts.netloc}\r\ncontent-type: application/json\r\n"
    try:
        writer.write(f"{head}content-length: {len(content)}\r\nconnection: close\r\n\r\n".encode() + content)
        await writer.drain()
        status = int((await reader.readline()).split()[1])
        headers = {}
        while line := (await reader.readline()).decode().strip():
            name, _, value = line.partition(":")
            headers[name.lower()] = value.strip()
        if status != 200:
            found.end = "refused" if status in (429, 503) and "retry-after" in headers else f"lost: status {status}"
            return float(headers.get("retry-after", 0))
        await _read(reader, found)
    finally:
        writer.close()
    return 0.0


async def _read(reader: asyncio.StreamReader, found: Stream) -> None:
    finish = None
    while line := await reader.readline():
        if not line.startswith(b"data: "):
            continue
        if line.startswith(b"data: [DONE]"):
            found.end = "done" if finish else "lost: no finish"
            return
        event = json.loads(line[6:])
        if "error" in event:
            found.end = f"lost: {event['error']['message']}"
            return
        choice = event["choices"][0]
        finish = finish or choice["finish_reason"]
        if choice["delta"].get("content"):
            found.pieces.append(time.monotonic())
    found.end = "lost: broke off"


async def probe(url: str, seconds: float, lines: asyncio.StreamReader) -> list[float]:
    """Ask for /health on one connection until the time is over or a line comes."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    asked = f"GET /health HTTP/1.1\r\nhost: {parts.netloc}\r\n\r\n".encode()
    took: list[float] = []
    enough = asyncio.create_task(lines.readline())
    until = time.monotonic() + seconds
    while time.monotonic() < until and not enough.done():
        began = time.monotonic()
        writer.write(asked)
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-l"))
        await reader.readexactly(length)
        took.append(time.monotonic() - began)
        await asyncio.sleep(BETWEEN_PROBES)
    enough.cancel()
    writer.close()
    return took


async def serve() -> None:
    lines = asyncio.StreamReader()
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    while line := await lines.readline():
        if not line.strip():
            continue
        job = json.loads(line)
        if "probe" in job:
            told: Any = await probe(job["url"], job["probe"], lines)
        else:
            every = [stream(job["url"], body, job.get("patience", 0.0)) for body in job["bodies"]]
            told = [asdict(one) for one in await asyncio.gather(*every)]
        print(json.dumps(told), flush=True)


class Client:
    """The process, for whoever measures."""

    def __init__(self) -> None:
        command = [sys.executable, "-m", "experiments.streams"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.kill()
        self._process.wait()

    def begin(self, **job: Any) -> None:
        self._write(json.dumps(job))

    def streams(self, url: str, bodies: list[dict[str, Any]], patience: float = 0.0) -> list[Stream]:
        """Ask everything at once, and wait until all of it has ended."""
        self.begin(url=url, bodies=bodies, patience=patience)
        return [Stream(**one) for one in self._told()]

    def probed(self) -> list[float]:
        """End the probing that has begun: the seconds of each look."""
        self._write("")
        return list(self._told())

    def _write(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()

    def _told(self) -> list[Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the client has ended"
        return list(json.loads(line))


if __name__ == "__main__":
    asyncio.run(serve())
