"""Whatever a model, a person or a file writes stays text: nothing of it runs, loads, leads astray or takes over."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from playwright.sync_api import Locator, Page, expect

from palmier.versions import Versions

from ..serve.home import Server  # noqa: TID252  # tests are no package: the one way to a neighbour

pytestmark = pytest.mark.web

RUN = "window.hacked=1"
SCHEME = "javascript:window.hacked=1"

VECTORS = {
    # elements that run something
    "script": f"<script>{RUN}</script>",
    "script in other letters": f"<ScRiPt>{RUN}</sCrIpT>",
    "script from elsewhere": "<script src=//evil.example/x.js></script>",
    "script in two": f"<scr<script>ipt>{RUN}</scr</script>ipt>",
    "image that fails": f'<img src=x onerror="{RUN}">',
    "image with a slash": f"<img/src=x/onerror={RUN}>",
    "image that never closes": f'<img src="x" onerror="{RUN}" ',
    "svg": f"<svg onload={RUN}>",
    "svg with a script": f"<svg><script>{RUN}</script></svg>",
    "svg that animates": f'<svg><animate onbegin="{RUN}" attributeName=x dur=1s>',
    "svg that uses": '<svg><use href="//evil.example/x.svg#a"></use></svg>',
    "body": f"<body onload={RUN}>",
    "details": f'<details open ontoggle="{RUN}">x</details>',
    "focus": f'<input autofocus onfocus="{RUN}">',
    "video": f'<video><source onerror="{RUN}"></video>',
    "marquee": f"<marquee onstart={RUN}>x</marquee>",
    "frame": f'<iframe src="{SCHEME}"></iframe>',
    "frame with a document": f'<iframe srcdoc="<script>parent.{RUN[7:]}</script>"></iframe>',
    "object": f'<object data="{SCHEME}"></object><embed src="{SCHEME}">',
    "form": f'<form action="{SCHEME}"><button>press</button></form>',
    "button of another form": '<button form="composer" formaction="//evil.example">press</button>',
    "base": '<base href="//evil.example/">',
    "meta": f'<meta http-equiv="refresh" content="0;url={SCHEME}">',
    "style": "<style>@import '//evil.example/x.css';body{display:none}</style>",
    "link to a style": '<link rel="stylesheet" href="//evil.example/x.css">',
    "style attribute": '<div style="position:fixed;inset:0;background:url(//evil.example/x.png)">x</div>',
    "comment": f"<!--><img src=x onerror={RUN}>-->",
    "comment with a bang": f"<!--! --!><img src=x onerror={RUN}> -->",
    "CDATA": f"<![CDATA[<img src=x onerror={RUN}>]]>",
    "processing instruction": f"<?xml-stylesheet href='{SCHEME}'?><img src=x onerror={RUN}>",
    "template": f"<template><script>{RUN}</script></template>",
    "noscript": f'<noscript><p title="</noscript><img src=x onerror={RUN}>">',
    "title and textarea": f'<textarea><p title="</textarea><img src=x onerror={RUN}>">',
    # parsers that read the same text twice, and otherwise
    "mathml and style": f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=x onerror={RUN}&gt;'>",
    "svg and style": f'<svg></p><style><a id="</style><img src=x onerror={RUN}>">',
    "math annotation": f'<math><annotation-xml encoding="text/html"><img src=x onerror={RUN}></annotation-xml></math>',
    "math with a link": f'<math><mi xlink:href="{SCHEME}">x</mi><maction actiontype="statusline" xlink:href="{SCHEME}">x</maction></math>',
    "form in a form": f"<form><math><mtext></form><form><mglyph><style></math><img src=x onerror={RUN}>",
    "select": f"<select><option></select><img src=x onerror={RUN}></select>",
    # entities that would become elements
    "entities": f"&lt;img src=x onerror={RUN}&gt;",
    "numeric entities": f"&#60;img src=x onerror={RUN}&#62; &#x3c;script&#x3e;{RUN}&#x3c;/script&#x3e;",
    "twice encoded": f"&amp;lt;script&amp;gt;{RUN}&amp;lt;/script&amp;gt;",
    "escapes": f"\\<img src=x onerror={RUN}\\>",
    # addresses
    "link": f"[a]({SCHEME})",
    "link in other letters": f"[a](JaVaScRiPt:{RUN})",
    "link with a tab": f"[a](java\tscript:{RUN})",
    "link with an encoded tab": f"[a](java&Tab;script:{RUN}) [a](java&#9;script:{RUN}) [a](java&#x0A;script:{RUN})",
    "link with a control character": f"[a](\x01javascript:{RUN}) [a](&#1;javascript:{RUN})",
    "link with spaces": f"[a](<  javascript:{RUN}>)",
    "link with an encoded colon": f"[a](javascript&colon;{RUN}) [a](javascript&#58;{RUN}) [a](javascript&#x3a;{RUN}) [a](javascript%3A{RUN})",
    "link with entities": f"[a](&#106;&#97;&#118;&#97;&#115;&#99;&#114;&#105;&#112;&#116;&#58;{RUN}) [a](&#x6A&#x61;vascript:{RUN})",
    "link with escapes": f"[a](java\\script:{RUN}) [a](javascript\\:{RUN})",
    "link with a line": f"[a](java\nscript:{RUN})",
    "link with a comment": f"[a](javascript://e.example/%0a{RUN})",
    "data": "[a](data:text/html;base64,PHNjcmlwdD53aW5kb3cuaGFja2VkPTE8L3NjcmlwdD4=)",
    "vbscript": f"[a](vbscript:{RUN})",
    "blob and file": "[a](blob:http://evil.example/x) [a](file:///etc/passwd) [a](view-source:http://e.example) [a](feed:javascript:1)",
    "address without a scheme": "[a](//evil.example) [a](\\\\evil.example) [a](/api/conversations)",
    "autolink": f"<{SCHEME}> <vbscript:x> <data:text/html,x>",
    "reference": f"[a]\n\n[a]: {SCHEME}",
    "reference with a title": f'[a][b]\n\n[b]: <{SCHEME}> "x onclick={RUN}"',
    "reference called as a property": f"[__proto__] [constructor] [a][toString]\n\n[__proto__]: {SCHEME}",
    "title that breaks out": f'[a](https://e.example "x\\" onmouseover=\\"{RUN}")',
    "address that breaks out": f'[a](https://e.example/"onmouseover="{RUN}) [a](<https://e.example/"><img src=x onerror={RUN}>>)',
    "picture": f"![a]({SCHEME}) ![a](https://evil.example/p.png) ![a](//evil.example/p.png)",
    "picture that breaks out": f'![a" onerror="{RUN}](https://e.example/x.png)',
    "picture in a link": f"[![a](https://evil.example/p.png)]({SCHEME}) [![a]({SCHEME})](https://e.example/)",
    "link in a link": f"[a [b]({SCHEME}) c](https://e.example/)",
    "text of a link": f"[<img src=x onerror={RUN}>](https://e.example/)",
    "a name and a password": "[https://bank.example](https://bank.example@evil.example/)",
    # Markdown inside of Markdown
    "nested": f"> - **_[a]({SCHEME})_** <img src=x onerror={RUN}>\n>   > `<script>{RUN}</script>`",
    "heading": f"# <img src=x onerror={RUN}> [a]({SCHEME})",
    "table": f"| <img src=x onerror={RUN}> | [a]({SCHEME}) |\n|---|---|\n| <script>{RUN}</script> | `<b>` ![a]({SCHEME}) |",
    "task": f"- [x] <img src=x onerror={RUN}>\n- [ ] [a]({SCHEME})",
    "code": f"`<img src=x onerror={RUN}>` ``<script>{RUN}</script>``",
    "block of code": f"```html\n<script>{RUN}</script>\n<img src=x onerror={RUN}>\n```",
    "info with quotes": f'```" onmouseover="{RUN}" x="\nx\n```\n\n~~~js"><img src=x onerror={RUN}>\nx\n~~~',
    "info as a class": "```composer primary hidden\nx\n```\n\n```../../api/state\nx\n```\n\n```constructor\nx\n```\n\n```__proto__\nx\n```",
    "colours of code": f"```js\nconst a = `<img src=x onerror={RUN}>`; // </span><script>{RUN}</script>\n```",
    "html within markdown's colours": f"```md\n<script>{RUN}</script> [a]({SCHEME})\n```",
    # formulas
    "formula with a link": f"$\\href{{{SCHEME}}}{{x}}$ $\\url{{{SCHEME}}}$",
    "formula with a picture": "$\\includegraphics{https://evil.example/x.png}$ $$\\includegraphics[width=9em]{//evil.example/x}$$",
    "formula with attributes": f"$\\htmlData{{x={RUN}}}{{x}}$ $\\data{{onclick={RUN}}}{{x}}$ $\\style{{position:fixed}}{{x}}$ $\\class{{composer}}{{x}}$ $\\id{{composer}}{{x}}$ $\\htmlId{{composer}}{{x}}$",
    "formula with a label": "$$\\begin{equation}\\label{composer} x\\end{equation}$$ $\\ref{composer}$",
    "formula with a colour": "$\\color{url(//evil.example)}x$ $\\textcolor{red;background:url(//evil.example)}{x}$ $\\colorbox{#fff}{x}$",
    "formula with text": f"$\\text{{<img src=x onerror={RUN}>}}$ $<script>{RUN}</script>$",
    "formula over the page": "$\\raise{1000em}{x}$ $\\kern{-1000em}\\rule{1000em}{1000em}$ $$\\hspace{-500em}x$$",
    "formula with macros": "$\\gdef\\x{y}\\x$ $\\def\\__proto__{x}$ $\\newcommand\\hasOwnProperty{x}$",
    # names that the page's own scripts would find
    "ids": '<p id="composer">x</p><a id="text" name="text">x</a><form name="location"><input name="href"></form>',
    "names": '<img name="cookie"><img name="getElementById"><a id="hacked">x</a>',
    "heading as an id": "# composer\n\n# text\n\n# chats",
    "footnote": "a[^1]\n\n[^1]: <img id=composer src=x onerror=window.hacked=1>",
    # signs that are not seen
    "direction": "a \u202e]1=dekcah.wodniw[ \u2066 b",
    "nothing and the last": "a \x00 b \ufffe c d <img\x00 src=x onerror=window.hacked=1>",
    "line ends of others": "a\u2028<img src=x onerror=window.hacked=1>\u2029b\x0bc\x0cd\rb",
}

ELEMENTS = re.findall(
    r"\w+",
    "a article blockquote br button code dd del details dialog div dl dt em footer form h1 h2 h3 h4 h5 h6 header hr img input label "
    "legend li main nav ol option p pre section select small span strong summary table tbody td textarea th thead time tr ul "
    "fieldset kbd aside output progress meter optgroup svg path body math mrow mi mn mo ms mtext mspace mfrac msqrt mroot mstyle mpadded mphantom msub msup "
    "msubsup munder mover munderover mmultiscripts mprescripts none mtable mtr mtd menclose semantics circle rect line polyline g",
)

WRONG = """allowed => {
    const found = [];
    const inAnswers = [...document.querySelectorAll(".prose *")];
    for (const node of document.body.querySelectorAll("*")) {
        if (!allowed.includes(node.localName)) found.push(`element ${node.localName}`);
        for (const { name, value } of node.attributes) {
            if (/^on/i.test(name)) found.push(`attribute ${name}`);
            if (/^(src|srcset|srcdoc|action|formaction|data|poster|background|ping|xlink:href)$/i.test(name)
                && !value.startsWith("/page/")) found.push(`${name}=${value}`);
        }
        const address = node.getAttribute("href");
        if (address !== null && !/^(https?:|mailto:|\\/(?!\\/)|#|\\?)/.test(address)) found.push(`href=${address}`);
    }
    for (const node of inAnswers) {
        if (node.id || node.getAttribute("name")) found.push(`id ${node.id || node.name}`);
        const address = node.getAttribute("href");
        if (address !== null && !/^(https?:|mailto:)/.test(address)) found.push(`href=${address} in an answer`);
        if (address !== null && (node.target !== "_blank" || !/noopener/.test(node.rel))) found.push("a link that keeps its opener");
        if (["img", "form", "input", "select", "textarea", "dialog", "svg"].includes(node.localName)) found.push(`${node.localName} in an answer`);
        for (const name of node.classList) if (/composer|primary|hidden/.test(name)) found.push(`class ${name}`);
        if (node.localName === "math" || node.closest("math")) {
            if (/url|fixed|absolute/.test(node.getAttribute("style") ?? "")) found.push("a style that reaches out");
        }
    }
    if (window.hacked !== undefined) found.push("a script ran");
    if (!(document.getElementById("composer") ?? document.querySelector("form"))) found.push("the page lost its form");
    return [...new Set(found)];
}"""

MANY = 30
"""Vectors in one answer: many in one conversation, and yet each within a message's length."""


@pytest.fixture
def watched(page: Page) -> tuple[Page, list[str]]:
    """A page, and what it asked of other hosts."""
    left: list[str] = []
    page.context.on("request", lambda request: left.append(request.url) if not _is_own(request.url) else None)
    page.on("dialog", lambda dialog: left.append(f"dialog {dialog.message}"))
    return page, left


def _is_own(url: str) -> bool:
    return url.startswith(("http://127.0.0.1:", "about:", "blob:http://127.0.0.1"))


def wrong(page: Page) -> list[str]:
    page.wait_for_timeout(600)  # what loads late, colours and formulas, is there; so is what an event would have done
    found: list[str] = page.evaluate(WRONG, ELEMENTS)
    return found


def conversation(answers: list[str], **notes: Any) -> dict[str, Any]:
    """As an export writes it, every answer to a question that says the same."""
    messages: list[dict[str, Any]] = []
    for text in answers:
        for role in ("user", "assistant"):
            number = len(messages) + 1
            messages.append({"id": number, "parent": number - 1 or None, "role": role, "content": text})
    return {"format": "palmier conversation", "version": 1, "messages": messages, **notes}


def take(server: Server, value: dict[str, Any]) -> int:
    answer = httpx.post(f"{server.url}/api/conversations/import", json=value)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


@pytest.mark.long
def test_nothing_in_an_answer_or_a_question_becomes_more_than_text(
    serve: Callable[..., Server], watched: tuple[Page, list[str]]
) -> None:
    page, left = watched
    server = serve("first")
    texts = [text.replace("\x00", "") for text in VECTORS.values()]
    for at in range(0, len(texts), MANY):
        number = take(server, conversation(texts[at : at + MANY]))
        page.goto(f"{server.url}/?c={number}")
        turns = page.locator(".turn")
        expect(turns).to_have_count(len(texts[at : at + MANY]))
        for turn in turns.all():  # each is drawn when it comes near
            turn.scroll_into_view_if_needed()
        expect(page.locator(".answer .prose")).to_have_count(len(texts[at : at + MANY]))
        assert wrong(page) == []
    expect(page.locator(".prose").first).to_be_visible()
    assert left == []


def test_each_vector_by_itself_as_it_streams(bench: Locator, watched: tuple[Page, list[str]]) -> None:
    page, left = watched
    found = {}
    for name, text in VECTORS.items():
        page.evaluate(
            """text => {
                for (let end = 1; end <= text.length; end += 3) markdown.update(bench, text.slice(0, end));
                markdown.update(bench, text);
            }""",
            text,
        )
        problems = page.evaluate(WRONG, ELEMENTS)
        if problems:
            found[name] = problems
    assert found == {}
    assert wrong(page) == []
    assert left == []


def test_links_that_are_shown_lead_where_they_say(
    serve: Callable[..., Server], watched: tuple[Page, list[str]]
) -> None:
    page, left = watched
    page.goto(serve("first").url)
    found = page.evaluate(
        """async vectors => {
            const { render } = await import("/page/markdown.js");
            const links = {};
            for (const [name, text] of Object.entries(vectors)) {
                const box = document.createElement("div");
                box.append(render(text));
                const found = [...box.querySelectorAll("a")].map(node => node.href);
                if (found.length) links[name] = found;
            }
            return links;
        }""",
        {name: text for name, text in VECTORS.items() if name != "nothing and the last"},
    )
    hosts = {address.split("/")[2] for addresses in found.values() for address in addresses if "//" in address}
    assert hosts <= {"e.example", "evil.example", "bank.example@evil.example"}
    assert not {"link", "autolink", "reference", "data", "vbscript", "link with entities", "blob and file"} & set(found)
    assert found["a name and a password"] == ["https://bank.example@evil.example/"]
    assert left == []


@pytest.mark.long
def test_titles_folders_and_labels_are_text(
    serve: Callable[..., Server], watched: tuple[Page, list[str]], models: Any
) -> None:
    page, left = watched
    server = serve("first", "second")
    short = [text[:190] for text in VECTORS.values() if "\x00" not in text]
    versions = Versions(server.workspace)
    for text in short[:3]:
        versions.add(models["first"], label=text)
    versions.promote(versions.add(models["second"], label=f"<img src=x onerror={RUN}>").name)
    for text in short:
        take(server, conversation(["x"], title=text, folder=text))
    number = take(server, conversation([text[:100] for text in short[:5]], title=short[0]))
    for path in (
        "/",
        f"/?c={number}",
        f"/?c={number}&compare=0001,0006",
        "/rank",
        f"/rank?conversation={number}&turn=0",
    ):
        page.goto(server.url + path)
        if not path.startswith("/rank"):
            expect(page.locator("body")).to_contain_text("<img src=x")
        assert wrong(page) == [], path
    assert left == []


def test_the_policy_holds_where_the_page_would_not(serve: Callable[..., Server], page: Page) -> None:
    """Were there a hole all the same: no script in the page, no style, no picture from elsewhere, no evaluation."""
    server = serve("first")
    refused: list[str] = []
    page.on(
        "console", lambda message: refused.append(message.text) if "Content Security Policy" in message.text else None
    )
    page.goto(server.url)
    page.evaluate("""() => {
        const script = document.createElement("script");
        script.textContent = "window.hacked = 1";
        const image = document.createElement("img");
        image.src = "https://evil.example/x.png";
        const paragraph = document.createElement("p");
        paragraph.setAttribute("style", "position: fixed");
        paragraph.setAttribute("onclick", "window.hacked = 2");
        document.body.append(script, image, paragraph);
        paragraph.click();
        setTimeout("window.hacked = 3");
    }""")
    page.wait_for_timeout(200)
    assert page.evaluate("window.hacked") is None
    assert page.evaluate("getComputedStyle(document.body.lastChild).position") == "static"
    assert len(refused) >= 4


def test_no_script_of_ours_parses_text_as_html() -> None:
    import palmier

    page = Path(palmier.__file__).parent / "serve" / "page"
    ours = [path for path in page.rglob("*.js") if "vendor" not in path.parts]
    words = (
        "innerHTML",
        "outerHTML",
        "insertAdjacentHTML",
        "document.write",
        "createContextualFragment",
        "DOMParser",
        "parseFromString",
        "setHTML",
        "eval(",
        "new Function",
    )
    found = [f"{path.name}: {word}" for path in ours for word in words if word in path.read_text("utf-8")]
    assert found == []
