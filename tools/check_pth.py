"""Fails when starting Python in this environment would run code that nobody here knows.

A line of a `.pth` file in site-packages that begins with `import` runs at every start of the
interpreter, before any import of ours; so do `sitecustomize` and `usercustomize`. LiteLLM 1.82.8 was
compromised that way.
"""

from __future__ import annotations

import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

PROJECT = Path(__file__).resolve().parents[1]
#: The lines that may run, by file, word for word.
KNOWN = {
    # uv's and virtualenv's environments.
    "_virtualenv.pth": {"import _virtualenv"},
    # setuptools, where something brings it along.
    "distutils-precedence.pth": {
        "import os; var = 'SETUPTOOLS_USE_DISTUTILS'; enabled = os.environ.get(var, 'local') == 'local'; "
        "enabled and __import__('_distutils_hack').add_shim();"
    },
}
_HOOKS = ("sitecustomize", "usercustomize")


def faults(directory: Path, project: Path = PROJECT) -> Iterator[str]:
    """What a start of Python would run or put on its path from `directory`, and should not."""
    for path in sorted(directory.glob("*.pth")):
        for line in path.read_text(encoding="utf-8-sig", errors="replace").splitlines():
            if fault := _fault(path, line, directory, project):
                yield fault
    for name in _HOOKS:
        for path in sorted([*directory.glob(f"{name}.*"), *directory.glob(f"{name}/__init__.*")]):
            yield f"{path}: runs at every start of Python"


def _fault(path: Path, line: str, directory: Path, project: Path) -> str | None:
    text = line.strip()
    if not text or text.startswith("#"):
        return None
    if line.startswith(("import ", "import\t")):
        known = text in KNOWN.get(path.name, set())
        return None if known else f"{path}: runs unknown code: {text[:120]!r}"
    target = (directory / text).resolve()
    if target.is_relative_to(project) or target.is_relative_to(directory):
        return None
    return f"{path}: puts {text[:120]!r} on the path, which is outside of the project"


def main() -> int:
    """The command: 0 when all is known, else 1."""
    directories = {Path(sysconfig.get_path(name)) for name in ("purelib", "platlib")}
    found = [fault for directory in sorted(directories) for fault in faults(directory)]
    for fault in found:
        print(fault, file=sys.stderr)
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
