"""What a program tells of one task."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Timing:
    """``first`` is the time to the first token, where one prompt was asked; both in seconds."""

    seconds: float
    first: float | None
    tokens: int

    def figure(self, new_tokens: int) -> float:
        """Seconds to the first token where there is but one, else tokens a second.

        With one prompt the first token's time is left out: decoding is measured alone.
        """
        if new_tokens == 1:
            return self.seconds
        if self.first is not None:
            return (self.tokens - 1) / (self.seconds - self.first)
        return self.tokens / self.seconds
