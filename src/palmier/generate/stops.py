"""Stop strings over text that comes in pieces: they are found across the borders of tokens."""

from __future__ import annotations

from collections.abc import Sequence

from palmier.errors import Refusal


class Stops:
    """Lets text through up to the first stop string, and holds back what may be the beginning of one."""

    def __init__(self, strings: Sequence[str]) -> None:
        """Raises Refusal where a stop string is empty: it would stop every answer before its first character."""
        if "" in strings:
            raise Refusal("stop: a stop string may not be empty", "stop")
        self._strings = tuple(strings)
        self._held = ""
        self.found = False
        self.string = ""
        """The stop string that was found."""

    def push(self, text: str, *, last: bool = False) -> str:
        """The text that is certain once ``text`` has come; with ``last`` nothing is held back.

        After a stop string is ``found`` nothing more comes. It is the one that begins first, however the text was cut
        into pieces: one that is there waits for another that began before it and may still be completed.
        """
        if self.found:
            return ""
        text = self._held + text
        places = [(place, string) for string in self._strings if (place := text.find(string)) >= 0]
        keep = 0 if last else self._beginning(text)
        place, string = min(places, key=lambda found: found[0], default=(len(text), ""))
        if string and place <= len(text) - keep:
            self.found, self._held, self.string = True, "", string
            return text[:place]
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def _beginning(self, text: str) -> int:
        """The length of the longest end of ``text`` with which a stop string begins."""
        longest = max((len(string) for string in self._strings), default=1)
        for length in range(min(longest - 1, len(text)), 0, -1):
            if any(string.startswith(text[-length:]) for string in self._strings):
                return length
        return 0
