"""A real terminal around a command: a pseudo-terminal of the standard library, with keys pressed and text awaited."""

from __future__ import annotations

import codecs
import fcntl
import os
import pty
import select
import subprocess
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager

CTRL_C, CTRL_D = "\x03", "\x04"


class Terminal:
    """What a command printed so far, and its keyboard."""

    def __init__(self, process: subprocess.Popen[bytes], master: int) -> None:
        self.process = process
        self.seen = ""
        self._master = master
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def until(self, text: str, seconds: float = 60.0) -> str:
        """Read until ``text`` appears; returns, and forgets, everything up to it."""
        deadline = time.monotonic() + seconds
        while text not in self.seen:
            left = deadline - time.monotonic()
            assert left > 0, f"{text!r} never came; the screen:\n{self.seen}"
            if not self._read(left):
                raise AssertionError(f"{text!r} never came, the program ended; the screen:\n{self.seen}")
        before, _, self.seen = self.seen.partition(text)
        return before + text

    def ended(self, seconds: float = 30.0) -> int:
        """The exit status; what was still printed is in ``seen``."""
        while self._read(seconds):
            pass
        return self.process.wait(seconds)

    def _read(self, seconds: float) -> bool:
        """Take in what there is; False when the program has closed its terminal."""
        ready, _, _ = select.select([self._master], [], [], seconds)
        if not ready:
            return True
        try:
            found = os.read(self._master, 65536)
        except OSError:  # Linux: nobody holds the other end any more
            return False
        self.seen += self._decoder.decode(found)
        return bool(found)


@contextmanager
def terminal(*words: str, **variables: str) -> Iterator[Terminal]:
    """`palmier WORDS` (or ``-c CODE``, a Python program) in a terminal of its own, which Ctrl-C reaches as a signal."""
    master, slave = pty.openpty()
    command = [sys.executable, *(words if words[0] == "-c" else ("-m", "palmier", *words))]
    process = subprocess.Popen(
        command,
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0) and None,
        env=os.environ | {"TERM": "xterm", "COLUMNS": "100"} | variables,
    )
    os.close(slave)
    try:
        yield Terminal(process, master)
    finally:
        process.kill()
        process.wait()
        os.close(master)
