"""Consent: the words that a person is asked with, each wording with its number, and what each one covers.

The answers are a log; the latest one of a person holds, for what that wording covers. A new
wording is a new number here: whoever agreed to an older one goes on being covered by that one,
and is asked again for what it did not name.
"""

from __future__ import annotations

from typing import Literal

from sqlalchemy import Select, func, select

from palmier.errors import Refusal
from palmier.feedback import rows, schema
from palmier.feedback.database import Database

WORDS = {
    1: "Your rankings are stored on this computer. May they also be used to train the next version? "
    "Then your prompts, the answers and the order you gave them become part of what it learns from. "
    "You can change your mind at any time: without your consent, rankings are kept but never used for training.",
    2: "What you say of answers is stored: rankings and comparisons, thumbs, and better answers that you write. "
    "May it also be used to train the next version? Then your prompts, the answers, your opinion of them and "
    "what you wrote become part of what it learns from. You can change your mind at any time: without your "
    "consent, what you said is kept but never used for training.",
}

WORDING = max(WORDS)
"""The wording that people are asked with today."""

Language = Literal["en", "de"]

GERMAN = {
    2: "Was Sie zu Antworten sagen, wird gespeichert: Rangfolgen und Vergleiche, Daumen, und bessere Antworten, die Sie "
    "schreiben. Darf es auch verwendet werden, um die nächste Version zu trainieren? Dann gehören Ihre Fragen, die "
    "Antworten, Ihre Meinung dazu und was Sie geschrieben haben zu dem, woraus sie lernt. Sie können es sich jederzeit "
    "anders überlegen: Ohne Ihre Einwilligung wird aufbewahrt, was Sie gesagt haben, aber nie zum Training verwendet.",
}
"""The wordings from the second on in German. A wording has one number in every language: it covers the same."""


def words_in(language: Language, wording: int = WORDING) -> str:
    """The words of a wording in a language. Raises Refusal where there are none."""
    words = (GERMAN if language == "de" else WORDS).get(wording)
    if words is None:
        raise Refusal(f"there is no wording {wording} of the question of consent in the language {language!r}")
    return words


COVERED_BY = {"ranking": 1, "label": 2, "demonstration": 2}
"""The first wording that names each kind of feedback. Every later one names it too."""


class Consents(Database):
    """The store's log of consent."""

    def set_consent(self, annotator: str, granted: bool, words: str, wording: int = WORDING) -> None:
        """Add an answer to the log; ``words`` is the text that the person read, ``wording`` its number."""
        if not words.strip():
            raise Refusal("consent is stored with the words that were read: they are empty")
        if wording not in WORDS:
            raise Refusal(f"wording {wording} of the question of consent is not known: {', '.join(map(str, WORDS))}")
        with self._transaction() as connection:
            rows.add(
                connection,
                schema.consent,
                annotator=annotator,
                granted=granted,
                words=words,
                created=rows.now(),
                wording=wording,
            )

    def consent(self, annotator: str = "") -> bool | None:
        """The person's latest answer; None where the question was never answered."""
        return self.consented(annotator)[0]

    def consented(self, annotator: str = "") -> tuple[bool | None, int]:
        """The latest answer and the wording that it was given to; (None, 0) where there is none."""
        table = schema.consent
        query = select(table).where(table.c.annotator == annotator).order_by(table.c.id.desc()).limit(1)
        with self._reading() as connection:
            row = connection.execute(query).one_or_none()
        return (None, 0) if row is None else (bool(row.granted), int(row.wording))


def willing(kind: str) -> Select[tuple[str]]:
    """The people whose feedback of a kind may be used: their latest answer is yes, to words that name it."""
    table = schema.consent
    latest = select(func.max(table.c.id)).group_by(table.c.annotator)
    return select(table.c.annotator).where(table.c.id.in_(latest), table.c.granted, table.c.wording >= COVERED_BY[kind])
