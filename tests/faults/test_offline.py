"""Nothing leaves the machine: in a network without a way out everything works, and nothing else was even tried."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ..serve.home import make_home, shared_models  # noqa: TID252  # tests are no package: the one way to a neighbour

SENT = re.compile(r"\b(connect|sendto|sendmsg|sendmmsg)\((?:\d+)(?:<[^>]*>)?, (.*)")
ADDRESS = re.compile(r'sin_addr=inet_addr\("([^"]+)"\)|inet_pton\(AF_INET6, "([^"]+)"')
LOOPBACK = re.compile(r"127\.\d+\.\d+\.\d+|::1|::ffff:127\.\d+\.\d+\.\d+")


def foreign(trace: str) -> Iterator[str]:
    """The calls of a trace that name an address of the internet's families which is not this machine's."""
    for line in trace.splitlines():
        call = SENT.search(line)
        if call is None or "AF_INET" not in call[2]:
            continue
        addresses = [one or other for one, other in ADDRESS.findall(call[2])]
        if not addresses or not all(LOOPBACK.fullmatch(address) for address in addresses):
            yield line


def chromium() -> str:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    found = own if Path(own).is_file() else shutil.which("chromium") or shutil.which("google-chrome")
    return found or pytest.skip("no Chromium: apt-get install chromium, or playwright install chromium")


def needs() -> None:
    for program in ("unshare", "ip", "strace"):
        if shutil.which(program) is None:
            pytest.skip(f"{program} is not installed")
    for what, command in {
        "a network namespace of one's own": ["unshare", "-rn", "ip", "link", "set", "lo", "up"],
        "to watch a process (ptrace)": ["strace", "-qq", "-o", "/dev/null", "-e", "trace=connect", "true"],
    }.items():
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            pytest.skip(f"the kernel does not grant {what}: {done.stderr.strip()}")


@pytest.mark.long
@pytest.mark.web
def test_a_chat_a_comparison_and_a_ranking_send_nothing_beyond_this_machine(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    needs()
    home = make_home(tmp_path / "home", shared_models(tmp_path_factory), "first", "second").home
    trace = tmp_path / "trace"
    program = [sys.executable, str(Path(__file__).with_name("offline.py")), str(home), str(trace), chromium()]
    done = subprocess.run(["unshare", "-rn", *program], capture_output=True, text=True, timeout=280, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert len(told["asked"]) > 20
    assert [url for url in told["asked"] if not url.startswith((told["url"], "data:", "blob:"))] == []
    calls = trace.read_text("utf-8", "replace")
    assert "connect(" in calls or "sendto(" in calls, "the watch sees nothing"
    assert list(foreign(calls)) == []


@pytest.mark.parametrize(
    ("line", "bad"),
    [
        ('12 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("192.0.2.1")}, 16) = -1', True),
        ('12 connect(7, {sa_family=AF_INET, sin_port=htons(53), sin_addr=inet_addr("127.0.0.53")}, 16) = 0', False),
        ('connect(7, {sa_family=AF_INET6, inet_pton(AF_INET6, "2001:db8::1", &sin6_addr)}, 28) = 0', True),
        ('connect(7, {sa_family=AF_INET6, inet_pton(AF_INET6, "::1", &sin6_addr)}, 28) = 0', False),
        ('sendto(5, "x", 1, 0, {sa_family=AF_INET, sin_port=htons(9), sin_addr=inet_addr("198.51.100.1")}, 16)', True),
        ('sendmsg(5<socket:[1]>, {msg_name={sa_family=AF_INET, sin_addr=inet_addr("198.51.100.1")}}, 0) = 1', True),
        ("connect(7, {sa_family=AF_INET, sin_port=htons(53), 0x7ffe}, 16) = 0", True),
        ('connect(7, {sa_family=AF_UNIX, sun_path="/run/x"}, 110) = -1', False),
        ('sendto(6, "HTTP/1.1 200 OK AF_UNIX", 12, 0, NULL, 0) = 12', False),
    ],
)
def test_the_reading_of_a_trace_finds_what_is_foreign(line: str, bad: bool) -> None:
    assert bool(list(foreign(line))) == bad
