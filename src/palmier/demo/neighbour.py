"""The nearest-neighbour baseline: the demonstration of the training request that looks most alike.

What a model's right facts are worth only shows beside this: it writes perfect prose and knows nothing.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

import numpy as np

from palmier.demo.tasks import Demonstration

_WORD = re.compile(r"\w+|[^\w\s]")


class NearestNeighbour:
    """Cosine of words weighted by log(N / documents with the word) (tf-idf)."""

    def __init__(self, demonstrations: Sequence[Demonstration]) -> None:
        self.demonstrations = list(demonstrations)
        texts = [_words(demonstration.task.prompt) for demonstration in self.demonstrations]
        seen = Counter(word for words in texts for word in set(words))
        self.column = {word: place for place, word in enumerate(seen)}
        count = len(texts)
        self.weight = np.array([np.log(count / times) for times in seen.values()], dtype=np.float32)
        self.matrix = np.stack([self._vector(words) for words in texts])

    def answer(self, prompt: str) -> str:
        """The answer of the most similar training request."""
        similarity = self.matrix @ self._vector(_words(prompt))
        return self.demonstrations[int(similarity.argmax())].answer

    def _vector(self, words: Sequence[str]) -> np.ndarray:
        vector = np.zeros(len(self.column), dtype=np.float32)
        for word in words:
            if word in self.column:
                vector[self.column[word]] += self.weight[self.column[word]]
        length = float(np.linalg.norm(vector))
        return vector / length if length else vector


def _words(text: str) -> list[str]:
    return _WORD.findall(text.lower())
