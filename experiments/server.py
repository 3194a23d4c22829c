"""`palmier serve` in a process of its own, as everybody starts it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.serving import environment


@contextmanager
def served(home: Path, *options: str) -> Iterator[str]:
    """The address of a server of this home, until the block ends. Raises SystemExit where it does not start."""
    command = [sys.executable, "-m", "palmier", "serve", "--no-browser", "--port", "0", "--home", str(home), *options]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment()) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            url = next((word for word in line.split() if word.startswith("http://")), "")
            if not url:
                raise SystemExit(f"palmier serve did not start: {line}")
            yield url.rstrip("/")
        finally:
            process.terminate()
