"""Hold the house's sizes: files under 400 lines, functions under 60, no module with a name that says nothing.

What others wrote and we only carry along (the page's vendored modules) is theirs to divide.
An exception stands in the line itself: `# size: REASON` behind the `def`, or in a file's first line.
"""

import ast
import subprocess
import sys
from pathlib import Path

FILE, FUNCTION = 400, 60
VENDORED = Path("src/palmier/serve/page/vendor")
NAMELESS = {"utils", "common", "helpers", "types", "misc"}


def complaints(path: Path) -> list[str]:
    text = path.read_text("utf-8")
    lines = text.splitlines()
    found = []
    if path.stem in NAMELESS:
        found.append(f"{path}: a module called {path.stem} says nothing of what it holds")
    if len(lines) > FILE and "# size:" not in lines[0]:
        found.append(f"{path}: {len(lines)} lines, at most {FILE}")
    if path.suffix != ".py":
        return found
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.end_lineno is not None:
            size = node.end_lineno - node.lineno + 1
            if size > FUNCTION and "# size:" not in lines[node.lineno - 1]:
                found.append(f"{path}:{node.lineno}: {node.name} has {size} lines, at most {FUNCTION}")
    return found


def main() -> int:
    listed = subprocess.run(
        ["git", "ls-files", "-co", "--exclude-standard"], capture_output=True, text=True, check=True
    )
    paths = [Path(name) for name in listed.stdout.split("\n") if name.endswith((".py", ".js", ".css", ".html"))]
    paths = [path for path in paths if not path.is_relative_to(VENDORED)]
    found = [line for path in paths if path.is_file() for line in complaints(path)]
    print("\n".join(found) or f"sizes: {len(paths)} files are within {FILE} lines, functions within {FUNCTION}")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
