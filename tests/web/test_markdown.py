"""How an answer looks: Markdown, code and formulas in a browser, while it streams and however strange it is."""

from __future__ import annotations

import random
from typing import Any

import pytest
from playwright.sync_api import Locator, Page, expect

pytestmark = pytest.mark.web

SHOW = """text => {
    bench.replaceChildren(markdown.render(text));
    return bench.innerHTML.replace(/ dir="(auto|ltr)"/g, ""); // test_directions.py
}"""


def show(page: Page, text: str) -> str:
    return str(page.evaluate(SHOW, text))


LINK = 'rel="noopener noreferrer nofollow" target="_blank"'

WRITTEN = {
    # paragraphs and what stands in them
    "one\ntwo\n\nthree": "<p>one<br>two</p><p>three</p>",
    "**b** __b__ *i* _i_ ***bi*** ~~d~~": (
        "<p><strong>b</strong> <strong>b</strong> <em>i</em> <em>i</em> <em><strong>bi</strong></em> <del>d</del></p>"
    ),
    "snake_case_name and 2*3*4": "<p>snake_case_name and 2<em>3</em>4</p>",
    "`a *b*` and ``c`d``": "<p><code>a *b*</code> and <code>c`d</code></p>",
    r"\*not\* \_this\_": "<p>*not* _this_</p>",
    "&copy; &lt;b&gt; &#65;&#x42; &amp;lt; &nosuch;": "<p>© &lt;b&gt; AB &amp;lt; &amp;nosuch;</p>",
    "`&lt;`": "<p><code>&amp;lt;</code></p>",
    # headings begin below the page's own
    "# A\n\n## B\n\n### C\n\n###### F": "<h3>A</h3><h4>B</h4><h5>C</h5><h6>F</h6>",
    "Title\n===": "<h3>Title</h3>",
    "#hashtag": "<p>#hashtag</p>",
    "---": "<hr>",
    # lists
    "- a\n- b": "<ul><li>a</li><li>b</li></ul>",
    "3. a\n4. b": '<ol start="3"><li>a</li><li>b</li></ol>',
    "- a\n  1. b\n     - c\n- d": "<ul><li>a<ol><li>b<ul><li>c</li></ul></li></ol></li><li>d</li></ul>",
    "- a\n\n- b": "<ul><li><p>a</p></li><li><p>b</p></li></ul>",
    "- [x] a\n- [ ] b": (
        '<ul><li class="task"><span class="box" role="img" aria-label="Done">☑</span> a</li>'
        '<li class="task"><span class="box" role="img" aria-label="To do">☐</span> b</li></ul>'
    ),
    "> a\n> > b\n\nc": "<blockquote><p>a</p><blockquote><p>b</p></blockquote></blockquote><p>c</p>",
    # links lead to the web or to a mailbox
    "[a *b*](https://e.org/x)": f'<p><a href="https://e.org/x" {LINK} title="https://e.org/x">a <em>b</em></a></p>',
    "<https://e.org/>": f'<p><a href="https://e.org/" {LINK}>https://e.org/</a></p>',
    "see https://e.org/.": f'<p>see <a href="https://e.org/" {LINK}>https://e.org/</a>.</p>',
    "[a][1]\n\n[1]: https://e.org/": f'<p><a href="https://e.org/" {LINK} title="https://e.org/">a</a></p>',
    "[m](mailto:a@e.org)": f'<p><a href="mailto:a@e.org" {LINK} title="mailto:a@e.org">m</a></p>',
    "[a](/api/state) [b](#c) [d](ftp://e.org)": "<p>[a](/api/state) [b](#c) [d](ftp://e.org)</p>",
    # pictures are named, not loaded
    "![a cat](https://e.org/c.png)": (
        f'<p><a href="https://e.org/c.png" {LINK} title="https://e.org/c.png">a cat (https://e.org/c.png)</a></p>'
    ),
    "![x](data:image/png;base64,AAAA)": "<p>![x](data:image/png;base64,AAAA)</p>",
    # HTML is text
    "a <b>c</b>": "<p>a &lt;b&gt;c&lt;/b&gt;</p>",
    "<div>\n  <p>x</p>\n</div>": '<p class="raw">&lt;div&gt;\n  &lt;p&gt;x&lt;/p&gt;\n&lt;/div&gt;</p>',
    "a<br>b": "<p>a<br>b</p>",
    # a table
    "| a | b | c |\n|:--|:-:|--:|\n| 1 | *2* | 3<br>4 |": (
        '<div class="table" tabindex="0" role="group" aria-label="Table"><table><thead><tr><th scope="col">a</th>'
        '<th class="to-center" scope="col">b</th><th class="to-right" scope="col">c</th></tr></thead><tbody><tr>'
        '<td>1</td><td class="to-center"><em>2</em></td><td class="to-right">3<br>4</td></tr></tbody></table></div>'
    ),
    # money is no formula
    "It costs $5 and $6.": "<p>It costs $5 and $6.</p>",
    "from $5 for you to 10$": "<p>from $5 for you to 10$</p>",
    "US$5, A$6$ and $ 7 $": "<p>US$5, A$6$ and $ 7 $</p>",
    r"\$5 and \$6": "<p>$5 and $6</p>",
}


def test_each_feature_becomes_its_elements(bench: Locator, page: Page) -> None:
    found = {text: show(page, text) for text in WRITTEN}
    assert found == WRITTEN


SAID = {  # after examples of CommonMark's own specification: what a reader sees of them
    "\tfoo\tbaz\t\tbim": "foo\tbaz\t\tbim",
    "  - foo\n\n\tbar": "foo bar",
    "- `one\n- two`": "`one two`",
    "***\n---\n___": "",
    "- Foo\n- * * *": "Foo",
    "####### foo": "####### foo",
    "## foo ##": "foo",
    "Foo *bar*\n====": "Foo bar",
    "    a simple\n      indented code block": "a simple\n  indented code block",
    "~~~\naaa\n```\n~~~": "aaa\n```",
    "```\nunclosed": "unclosed",
    "> ```\n> aaa\n\nbbb": "aaa bbb",
    "[foo]: /url 'title'\n\n[bar]": "[bar]",
    "aaa\n             bbb": "aaa bbb",
    "> # Foo\n> bar\n> baz": "Foo bar baz",
    "> bar\nbaz\n> foo": "bar baz foo",
    "1.  A paragraph\n    with two lines.": "A paragraph with two lines.",
    "The number of windows in my house is\n14.  The number of doors is 6.": (
        "The number of windows in my house is 14. The number of doors is 6."
    ),
    "`` foo ` bar ``": "foo ` bar",
    "`foo\\`bar`": "foo\\bar`",
    "*foo [bar*](/url)": "*foo [bar*](/url)",
    "a * foo bar*": "a * foo bar*",
    "foo*bar*": "foobar",
    "**foo*bar*baz**": "foobarbaz",
    "*foo**": "foo*",
    "[link](<foo\nbar>)": "[link](<foo bar>)",
    "<33> <__>": "<33> <__>",
    "multiple     spaces": "multiple spaces",
}
PLAIN = """text => {
    bench.replaceChildren(markdown.render(text));
    for (const header of bench.querySelectorAll("header")) header.remove();
    for (const line of bench.querySelectorAll("br")) line.replaceWith(" ");
    const blocks = [...bench.querySelectorAll("p, h3, h4, h5, h6, pre, li")].filter(node => !node.querySelector("p, pre, li"));
    return blocks.map(node => node.localName === "pre" ? node.textContent : node.textContent.replace(/[ \\n]+/g, " ")).join(" ").trim();
}"""


def test_a_sample_of_commonmark_reads_as_it_should(bench: Locator, page: Page) -> None:
    assert {text: page.evaluate(PLAIN, text) for text in SAID} == SAID


def test_code_has_its_language_its_colours_and_a_button_that_copies_it(bench: Locator, page: Page) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    show(
        page,
        "```python\ndef f(x):\n    return 'a<b'  # why\n```\n\n```html\n<p class='a'>x</p>\n```\n\n```\nplain\n```",
    )
    first, second, third = bench.locator(".codeblock").all()
    expect(first.locator("header span")).to_have_text("python")
    expect(third.locator("header span")).to_have_text("code")
    expect(first.locator(".hl-keyword")).to_have_text(["def", "return"])
    expect(first.locator(".hl-string")).to_have_text("'a<b'")
    expect(first.locator(".hl-comment")).to_have_text("# why")
    expect(second.locator(".hl-string")).to_have_text("'a'")
    expect(second.locator(".hl-title").first).to_have_text("p")
    assert third.locator("code span").count() == 0
    assert first.locator("code").text_content() == "def f(x):\n    return 'a<b'  # why"
    first.get_by_role("button", name="Copy").click()
    expect(first.get_by_role("button", name="Copied")).to_be_visible()
    assert page.evaluate("navigator.clipboard.readText()") == "def f(x):\n    return 'a<b'  # why"
    page.keyboard.press("Tab")
    expect(first.locator("pre")).to_be_focused()
    page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(second.get_by_role("button", name="Copied")).to_be_focused()
    assert page.evaluate("navigator.clipboard.readText()") == "<p class='a'>x</p>"


def test_every_language_arrives_and_colours_something(bench: Locator, page: Page) -> None:
    samples = {
        "bash": "if true; then echo hi; fi", "c": "int main(void) { return 0; }", "c++": "class A { int x = 1; };",
        "css": "a { color: red; }", "diff": "+ new\n- old", "go": "func main() {}", "toml": "[a]\nb = 1",
        "java": "public class A {}", "js": "const a = 1;", "json": '{"a": 1}', "md": "# Title\n\n- *a*",
        "rust": "fn main() {}", "console": "$ ls -l", "sql": "SELECT 1 FROM a;", "ts": "const a: number = 1;",
        "html": "<style>a { color: red }</style><script>const a = 1;</script>", "yaml": "a: 1", "py": "None",
    }  # fmt: skip
    show(page, "\n\n".join(f"````{name}\n{code}\n````" for name, code in samples.items()))
    for place, (name, code) in enumerate(samples.items()):
        block = bench.locator("code").nth(place)
        expect(block.locator("span").first, name).to_be_attached()
        assert block.text_content() == code
    expect(bench.locator("code", has_text="<style>").locator(".hl-keyword")).to_have_text("const")  # inside of HTML


CONTRAST = """() => {
    const parts = colour => {
        const pen = new OffscreenCanvas(1, 1).getContext("2d");
        pen.fillStyle = colour;
        pen.fillRect(0, 0, 1, 1);
        const [r, g, b] = [...pen.getImageData(0, 0, 1, 1).data].map(v => v / 255)
            .map(v => v <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
        return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const box = document.querySelector(".codeblock");
    const paper = parts(getComputedStyle(box).backgroundColor);
    const found = {};
    for (const sheet of document.styleSheets) for (const rule of sheet.cssRules) {
        const name = rule.selectorText?.match(/^\\.(hl-\\w+)$/)?.[1];
        if (!name) continue;
        const span = document.createElement("span");
        span.className = name;
        box.querySelector("code").append(span);
        const ink = parts(getComputedStyle(span).color);
        found[name] = (Math.max(ink, paper) + 0.05) / (Math.min(ink, paper) + 0.05);
    }
    return found;
}"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_colours_of_code_can_be_read(bench: Locator, page: Page, scheme: Any) -> None:
    page.emulate_media(color_scheme=scheme)
    show(page, "```\nx\n```")
    found = page.evaluate(CONTRAST)
    assert len(found) == 10
    assert {name: round(value, 2) for name, value in found.items() if value < 4.5} == {}


def test_formulas_are_typeset(bench: Locator, page: Page) -> None:
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    show(page, "No formula costs $5 or $6.")
    page.wait_for_timeout(300)
    assert not any("temml" in url for url in requests), "what is not needed is not fetched"
    text = (
        "So $e^{i\\pi}+1=0$, \\(a_1 < b_2\\) and\n\\[\n\\sum_{k=1}^n k = \\frac{n(n+1)}{2}\n\\]\n\n"
        "$$\n\\begin{aligned}\na &= b \\\\\n&= c\n\\end{aligned}\n$$\n\n- in a list: $x^2$\n\n| in a table |\n|-|\n| $y$ |"
    )
    show(page, text)
    expect(bench.locator("math")).to_have_count(6)
    expect(bench.locator("math mfrac")).to_have_count(1)
    expect(bench.locator("math mtable mtr")).to_have_count(2)
    assert bench.locator('math[display="block"]').count() == 2
    assert page.evaluate("bench.querySelector('math').namespaceURI").endswith("MathML")
    fraction = bench.locator("mfrac").bounding_box()
    assert fraction
    assert fraction["height"] > 20, "it is laid out as a fraction"
    assert bench.locator("[style*=url], [id]").count() == 0


def test_what_is_no_formula_is_shown_as_it_was_written(bench: Locator, page: Page) -> None:
    show(page, r"$x$ and $\frac{1$ and $\nosuchcommand{x}$ and $\def\a{\a\a}\a$ and \(\href{https://e.org}{x}\)")
    expect(bench.locator("math").first).to_be_attached()
    page.wait_for_timeout(100)
    text = bench.inner_text()
    assert r"$\frac{1$" in text
    assert r"$\def\a{\a\a}\a$" in text
    assert bench.locator("a").count() == 0


def random_answer(chance: random.Random) -> str:
    pieces = [
        "Some *words* and `code` here.", "## A heading", "- one\n- two\n  - three\n\n- four", "1. a\n2. b", "> a\n> quote\nlazy",
        "```nolanguage\nx = 1\n\n  y\n```", "| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |", "Title\n=====", "***", "<div>\nhtml\n</div>",
        "A [link](https://e.org/) and [ref][r].", "[r]: https://e.org/r", "    indented\n\n    code", "- [x] done\n- [ ] not", "a\\\nb",
        "line\r\nline", "word " * 60, "- item\n\n      code in it\n\n  more", "~~~\nopen fence",
    ]  # fmt: skip
    return "".join(chance.choice(pieces) + chance.choice(["\n\n", "\n\n", "\n", "\n\n\n", " "]) for _ in range(8))


STREAM = """([text, cuts]) => {
    const live = document.createElement("div");
    for (const cut of cuts) {
        markdown.update(live, text.slice(0, cut));
        const whole = document.createElement("div");
        whole.append(markdown.render(text.slice(0, cut)));
        whole.normalize();
        const copy = live.cloneNode(true);
        copy.normalize();
        if (copy.innerHTML !== whole.innerHTML) return [text.slice(0, cut), copy.innerHTML, whole.innerHTML];
    }
    return null;
}"""


def test_an_answer_that_grows_looks_as_if_it_were_drawn_at_once(bench: Locator, page: Page) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        text = random_answer(chance)
        cuts = sorted({*(chance.randrange(len(text)) for _ in range(25)), len(text)})
        assert page.evaluate(STREAM, [text, cuts]) is None, f"seed {seed}"


def test_while_it_grows_only_its_last_block_is_drawn_again(bench: Locator, page: Page) -> None:
    found = page.evaluate("""() => {
        const parts = ["# Title", "A paragraph.", "```python\\nx = 1\\n```", "- a\\n- b"];
        markdown.update(bench, parts.join("\\n\\n"));
        const before = [...bench.children];
        markdown.update(bench, parts.join("\\n\\n") + "\\n- c\\n\\nThe end.");
        const kept = before.map(node => node.isConnected);
        markdown.update(bench, "Another answer.");
        return [kept, bench.textContent];
    }""")
    assert found == [[True, True, True, False], "Another answer."]


def test_code_that_grows_keeps_its_element_and_its_colours(bench: Locator, page: Page) -> None:
    page.evaluate('markdown.update(bench, "```python\\ndef f():\\n    return 1")')
    expect(bench.locator(".hl-keyword")).to_have_text(["def", "return"])
    found = page.evaluate("""() => {
        const code = bench.querySelector("code");
        bench.querySelector("pre").focus();
        markdown.update(bench, "```python\\ndef f():\\n    return 1\\n\\ndef g():\\n    pass\\n```\\n\\nDone.");
        return [code.isConnected, document.activeElement.localName, code.querySelectorAll(".hl-keyword").length];
    }""")
    assert found == [True, "pre", 2], "nothing lost its colour meanwhile"
    expect(bench.locator(".hl-keyword")).to_have_text(["def", "return", "def", "pass"])
    # In a list the block is made anew with every piece; what was coloured stays so all the same.
    page.evaluate('markdown.update(bench, "- a\\n\\n  ```python\\n  def f():\\n      return 1")')
    expect(bench.locator(".hl-keyword")).to_have_text(["def", "return"])
    count = page.evaluate("""() => {
        markdown.update(bench, "- a\\n\\n  ```python\\n  def f():\\n      return 1 + 1");
        return bench.querySelectorAll(".hl-keyword").length;
    }""")
    assert count == 2
