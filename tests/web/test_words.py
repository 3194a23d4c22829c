"""Every word that the pages say has its German, and every German one is said somewhere."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

PAGE = Path(__file__).resolve().parents[2] / "src" / "palmier" / "serve" / "page"
SAY = re.compile(r"""(?<![.\w])say\(\s*("(?:[^"\\]|\\.)*"|[^\s)])""")
ENTRY = re.compile(r"""^  (?:"((?:[^"\\]|\\.)*)"|(\w+)):""", re.MULTILINE)


class Marked(HTMLParser):
    """Collects what `translate` of words.js looks at."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.open = ""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        assert not self.open, f"<{tag}> inside of <{self.open} data-say>: its text would be lost"
        if "data-say" in given:
            self.open = tag
            self.found.append("")
        self.found[:0] = [" ".join((given[name] or "").split()) for name in (given.get("data-say-in") or "").split()]

    def handle_data(self, data: str) -> None:
        if self.open:
            self.found[-1] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == self.open:
            self.open = ""
            self.found[-1] = " ".join(self.found[-1].split())


def speaking() -> list[Path]:
    """The modules that say something through words.js."""
    return [
        path
        for path in sorted(PAGE.glob("*.js"))
        if re.search(r"\bsay\b[^;]*from \"./words.js\"|import\(\"./words.js\"\)", path.read_text("utf-8"))
    ]


def said() -> dict[str, str]:
    """English sentence → where it stands."""
    found = {}
    for path in speaking():
        for match in SAY.finditer(path.read_text("utf-8")):
            assert match[1].startswith('"'), f"{path.name}: say(…) needs a sentence in quotes: {match[0]}"
            found[match[1][1:-1].replace('\\"', '"')] = path.name
    for path in sorted(PAGE.glob("*.html")):
        marked = Marked()
        marked.feed(path.read_text("utf-8"))
        found |= dict.fromkeys(marked.found, path.name)
    return found


def german() -> list[str]:
    texts = [path.read_text("utf-8") for path in sorted((PAGE / "german").glob("*.js"))]
    return [(quoted or bare).replace('\\"', '"') for text in texts for quoted, bare in ENTRY.findall(text)]


def test_every_sentence_has_its_german() -> None:
    known = set(german())
    missing = {sentence: place for sentence, place in said().items() if sentence not in known}
    assert not missing
    assert len(said()) > 100


def test_every_german_sentence_is_said_somewhere() -> None:
    assert not set(german()) - set(said())


def test_no_sentence_stands_twice() -> None:
    every = german()
    assert sorted(set(every)) == sorted(every)


def test_a_sentence_and_its_german_have_the_same_values() -> None:
    for path in sorted((PAGE / "german").glob("*.js")):
        for english, bare, words in re.findall(
            r"""^  (?:"((?:[^"\\]|\\.)*)"|(\w+)):\s+"((?:[^"\\]|\\.)*)",$""", path.read_text("utf-8"), re.MULTILINE
        ):
            assert sorted(re.findall(r"\{\w+\}", english or bare)) == sorted(re.findall(r"\{\w+\}", words)), english
            assert words.strip()


def test_nothing_that_a_person_reads_is_left_out_of_the_html() -> None:
    """In the chat page every text stands in an element with data-say; names and glyphs alone don't."""
    text = (PAGE / "index.html").read_text("utf-8")
    body = re.sub(r"<!--.*?-->|<svg.*?</svg>", "", text[text.index("<body") :], flags=re.DOTALL)
    bare = [m.strip() for m in re.findall(r"<(?!/)[^>]*?(?<!data-say)>([^<]*[A-Za-z]{2}[^<]*)<", body)]
    assert set(filter(None, bare)) <= {"Palmier", "Enter"}
