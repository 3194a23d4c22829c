"""Say which Chromium the browser tests use; with --install, get Debian's where there is none.

Playwright's own browser is preferred; `CHROMIUM=/path` names another.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path


def browser() -> str | None:
    if named := os.environ.get("CHROMIUM"):
        return named
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        own = playwright.chromium.executable_path
    if Path(own).is_file():
        return own
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


if __name__ == "__main__":
    found = browser()
    if found is None and "--install" in sys.argv and shutil.which("apt-get") and os.geteuid() == 0:
        subprocess.run(["apt-get", "update", "-qq"], check=True)
        subprocess.run(["apt-get", "install", "-y", "-qq", "chromium"], check=True, stdout=subprocess.DEVNULL)
        found = browser()
    if found is None:
        sys.exit("No Chromium for the browser tests: run `playwright install chromium`, or set CHROMIUM=/path")
    print(f"browser tests use {found}")
