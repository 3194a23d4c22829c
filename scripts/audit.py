"""Ask OSV's advisories about every pinned package, and record what was found as data (`make audit`).

    python scripts/audit.py [--service osv] [--out results/audit/constraints.json]

pip-audit, in an environment of its own below build/, reads constraints.txt; nothing of ours is installed there and no
dependency is looked up, so that exactly what is pinned is asked about. Recorded are the date, the tool's version, what
was asked about and the findings; where the advisories could not be reached, that, and no findings: not "none found".
Exit status: 0 nothing found, 1 something found, 2 not reached.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
import sys
import venv
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
TOOL = "pip-audit==2.10.1"
PINNED = ROOT / "constraints.txt"
OUT = ROOT / "results" / "audit" / "constraints.json"
SECONDS = 600


def packages(text: str) -> dict[str, str]:
    """Name → version of the lines `name==version`."""
    return dict(re.findall(r"(?m)^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;]+)", text))


def tool(folder: Path) -> Path:
    """The pip-audit of an environment of its own, installed where it is missing."""
    found = folder / "bin" / "pip-audit"
    if not found.is_file():
        venv.create(folder, with_pip=True, clear=True)
        pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
        subprocess.run([*pip, TOOL], check=True, timeout=SECONDS)
    return found


def ask(program: Path, service: str) -> dict[str, Any]:
    """What the advisories say: ``reached``, and by name what is known of each pinned version."""
    how = ["--requirement", str(PINNED), "--no-deps", "--disable-pip", "--vulnerability-service", service]
    command = [str(program), *how, "--format", "json", "--progress-spinner", "off", "--timeout", "20"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=SECONDS)
    return read(done.stdout)


def read(told: str) -> dict[str, Any]:
    """pip-audit's answer as ours. Whatever is no whole answer, such as the silence of a network that is not there, is none."""
    try:
        listed = list(json.loads(told)["dependencies"])
    except (ValueError, KeyError, TypeError):
        return {"reached": False}
    findings = [
        {
            "package": one["name"],
            "version": one["version"],
            "id": found["id"],
            "aliases": found.get("aliases", []),
            "fixed_in": found.get("fix_versions", []),
        }
        for one in listed
        for found in one.get("vulns", [])
    ]
    skipped = {one["name"]: one["skip_reason"] for one in listed if "skip_reason" in one}
    asked = {one["name"]: one["version"] for one in listed if "version" in one}
    if not asked:  # a service that knows no package at all is not the one that was meant
        return {"reached": False}
    return {"reached": True, "asked": asked, "skipped": skipped, "findings": findings}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--service", choices=("osv", "pypi"), default="osv")
    parser.add_argument("--out", type=Path, default=OUT)
    given = parser.parse_args()
    text = PINNED.read_text("utf-8")
    found = ask(tool(ROOT / "build" / "audit"), given.service)
    result = {
        "command": "make audit",
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "tool": TOOL,
        "service": given.service,
        "constraints": hashlib.sha256(text.encode()).hexdigest(),
        "packages": packages(text),
        **found,
    }
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(result, indent=2) + "\n", "utf-8")
    if not found["reached"]:
        print(f"The advisories ({given.service}) could not be reached from here: nothing is known of {PINNED.name}.")
        return 2
    for one in found["findings"]:
        print(f"{one['package']} {one['version']}: {one['id']}, mended in {', '.join(one['fixed_in']) or 'no version'}")
    if found["skipped"]:
        print(f"Nothing is known of {', '.join(found['skipped'])}.")
    print(f"{len(found['asked'])} packages asked about, {len(found['findings'])} findings; written to {given.out}")
    return 1 if found["findings"] else 0


if __name__ == "__main__":
    sys.exit(main())
