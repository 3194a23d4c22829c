"""Carry the page's libraries along: fetch the pinned npm packages, check them, write the files that the page loads.

    python scripts/vendor_page.py            write the files again, as they are recorded
    python scripts/vendor_page.py --check    are the files unchanged? (needs no network)
    python scripts/vendor_page.py --record   after another version was written into vendor.json: record what it holds

What is fetched stands in src/palmier/serve/page/vendor/vendor.json: a package's name, version, licence and integrity
(of its whole archive, as npm writes it), and the files taken from it, each with its SHA-256. Where the archive or a
file is not the recorded one, nothing is written.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import json
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path
from typing import Any

VENDOR = Path(__file__).parent.parent / "src" / "palmier" / "serve" / "page" / "vendor"
RECORD = VENDOR / "vendor.json"
OURS = {"vendor.json", "README.md"}

Json = dict[str, Any]


def integrity(archive: bytes) -> str:
    return "sha512-" + base64.b64encode(hashlib.sha512(archive).digest()).decode()


def sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def fetch(package: Json, folder: Path) -> bytes:
    """The package's archive, as npm packs it."""
    wanted = f"{package['name']}@{package['version']}"
    command = ["npm", "pack", "--silent", "--pack-destination", str(folder), wanted]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return (folder / done.stdout.split()[-1]).read_bytes()


def taken(package: Json, archive: bytes, folder: Path) -> dict[str, bytes]:
    """The recorded files out of an archive, by where they go below vendor/."""
    path = folder / "archive.tgz"
    path.write_bytes(archive)
    found = {}
    with tarfile.open(path) as tar:
        for name, file in package["files"].items():
            member = tar.extractfile(f"package/{file['from']}")
            if member is None:
                raise SystemExit(f"{package['name']} holds no file {file['from']}")
            found[name] = member.read()
    return found


def write(packages: list[Json], record: bool) -> None:
    contents: dict[str, bytes] = {}
    for package in packages:
        with tempfile.TemporaryDirectory() as name:
            archive = fetch(package, Path(name))
            files = taken(package, archive, Path(name))
        if record:
            package["integrity"] = integrity(archive)
            for path, content in files.items():
                package["files"][path]["sha256"] = sha256(content)
        elif integrity(archive) != package["integrity"]:
            raise SystemExit(f"{package['name']} {package['version']} is not the package that was recorded")
        contents |= files
    wrong = [name for name, content in contents.items() if sha256(content) != recorded(packages)[name]]
    if wrong:
        raise SystemExit(f"not as recorded: {', '.join(wrong)}")
    for name, content in contents.items():
        (VENDOR / name).parent.mkdir(parents=True, exist_ok=True)
        (VENDOR / name).write_bytes(content)
    if record:
        RECORD.write_text(json.dumps(packages, indent=2) + "\n", "utf-8")


def recorded(packages: list[Json]) -> dict[str, str]:
    return {name: file["sha256"] for package in packages for name, file in package["files"].items()}


def complaints(packages: list[Json]) -> list[str]:
    """What lies in vendor/ and is not as recorded, or not recorded at all."""
    known = recorded(packages)
    present = {path.relative_to(VENDOR).as_posix() for path in VENDOR.rglob("*") if path.is_file()} - OURS
    found = [f"{name} is missing" for name in sorted(known.keys() - present)]
    found += [f"{name} is not recorded" for name in sorted(present - known.keys())]
    changed = [name for name in sorted(known.keys() & present) if sha256((VENDOR / name).read_bytes()) != known[name]]
    return found + [f"{name} was changed" for name in changed]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only tell whether the files are unchanged")
    parser.add_argument("--record", action="store_true", help="record the hashes of what is fetched")
    given = parser.parse_args()
    packages = json.loads(RECORD.read_text("utf-8"))
    if not given.check:
        write(packages, given.record)
    found = complaints(packages)
    print("\n".join(found) or f"vendor: {len(recorded(packages))} files are as recorded")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
