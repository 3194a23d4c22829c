"""What a process holds in memory: by the system's account, and by the C library's books."""

from __future__ import annotations

import ctypes
from pathlib import Path


def resident(pid: int | str = "self", what: str = "VmRSS") -> int:
    """Bytes of a process's memory now (VmRSS), or at its highest (VmHWM)."""
    for line in Path(f"/proc/{pid}/status").read_text("ascii").splitlines():
        if line.startswith(what + ":"):
            return int(line.split()[1]) * 1024
    raise SystemExit("this system does not tell a process's memory")


def reset_peak(pid: int | str = "self") -> None:
    """Let VmHWM begin anew at what is resident now."""
    Path(f"/proc/{pid}/clear_refs").write_text("5", "ascii")


class _Books(ctypes.Structure):
    """struct mallinfo2 of glibc's malloc.h (2.33)."""

    _fields_ = tuple(
        (name, ctypes.c_size_t)
        for name in [
            "arena",
            "ordblks",
            "smblks",
            "hblks",
            "hblkhd",
            "usmblks",
            "fsmblks",
            "uordblks",
            "fordblks",
            "keepcost",
        ]
    )


def in_use() -> int:
    """Bytes of this process that somebody has taken with malloc and not given back; 0 where glibc doesn't tell.

    What the process holds on to beside it (`runtime.keep_memory`) is in `idle`, and in `resident`.
    """
    found = _books()
    return int(found.uordblks + found.hblkhd)


def idle() -> int:
    """Bytes that were given back with free and stay with this process all the same; 0 where glibc doesn't tell."""
    return int(_books().fordblks)


def _books() -> _Books:
    try:
        books = ctypes.CDLL(None).mallinfo2
    except (AttributeError, OSError, TypeError):  # macOS, musl, Windows, and glibc before 2.33
        return _Books()
    books.restype = _Books
    found: _Books = books()
    return found
