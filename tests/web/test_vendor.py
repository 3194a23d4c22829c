"""What the page carries along of others, and how much a browser loads in all."""

from __future__ import annotations

import gzip
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import palmier

ROOT = Path(__file__).parent.parent.parent
PAGE = Path(palmier.__file__).parent / "serve" / "page"
VENDOR = PAGE / "vendor"
PERMISSIVE = {"MIT", "BSD-3-Clause"}

FIRST = 120_000
"""Bytes before a page can be drawn: the modules that it names, and its styles."""

ALL = 250_000
"""Bytes of everything that a page can ever load; the aim is 500,000."""


def test_the_files_are_those_that_were_recorded() -> None:
    script = ROOT / "scripts" / "vendor_page.py"
    done = subprocess.run([sys.executable, script, "--check"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "vendor: 24 files are as recorded\n")


def test_a_file_that_was_changed_is_named(tmp_path: Path) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts" / "vendor_page.py", tmp_path / "scripts")
    copy = tmp_path / VENDOR.relative_to(PAGE.parents[3])
    shutil.copytree(VENDOR, copy)
    (copy / "marked" / "marked.esm.js").write_text("alert(1)", "utf-8")
    (copy / "more.js").write_text("alert(2)", "utf-8")
    (copy / "temml" / "LICENSE").unlink()
    command = [sys.executable, tmp_path / "scripts" / "vendor_page.py", "--check"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "temml/LICENSE is missing",
        "more.js is not recorded",
        "marked/marked.esm.js was changed",
    ]


def test_each_package_has_its_licence_beside_it_and_is_told_in_the_readme() -> None:
    readme = (VENDOR / "README.md").read_text("utf-8")
    for package in json.loads((VENDOR / "vendor.json").read_text("utf-8")):
        assert package["licence"] in PERMISSIVE
        assert re.fullmatch(r"sha512-[A-Za-z0-9+/]{86}==", package["integrity"])
        (licence,) = [name for name in package["files"] if name.endswith("LICENSE")]
        text = (VENDOR / licence).read_text("utf-8")
        assert "Copyright" in text
        said = {"MIT": "Permission is hereby granted, free of charge", "BSD-3-Clause": "Neither the name of"}
        assert said[package["licence"]] in text
        assert f"| {package['name']} | {package['version']} | {package['licence']} |" in readme


def loaded(page: str) -> set[Path]:
    """The files that a page's HTML names, and what these import, before anything is asked for later."""
    html = (PAGE / page).read_text("utf-8")
    found = {PAGE / page}
    waiting = [PAGE / name for name in re.findall(r'(?:href|src)="/page/([^"]+)"', html)]
    while waiting:
        path = waiting.pop()
        if path in found:
            continue
        found.add(path)
        if path.suffix == ".js":
            text = path.read_text("utf-8")
            waiting += [
                (path.parent / name).resolve()
                for name in re.findall(r'^(?:import|\} from|import .*? from) .*?"(\./[^"]+)";', text, re.M)
            ]
    return found


def size(paths: set[Path]) -> int:
    """Bytes as they are sent."""
    return sum(len(gzip.compress(path.read_bytes())) for path in paths)


def test_a_page_loads_little_before_it_is_drawn_and_not_much_in_all() -> None:
    code = {path for path in PAGE.rglob("*") if path.suffix in (".js", ".css", ".html", ".svg")}
    vendored = {path for path in code if path.is_relative_to(VENDOR)}
    vendored.add(PAGE / "maths.css")  # comes with Temml
    lazy = {path for path in vendored if path.parent.name != "marked"}
    for name in ("index.html", "rank.html"):
        first = loaded(name)
        assert VENDOR / "marked" / "marked.esm.js" in first
        assert first & lazy == set()
        print(f"\n{name}: {size(first):,} bytes at first, {size(first | vendored):,} with all that it may load later")
        assert size(first) < FIRST
        assert size(first | vendored) < ALL
