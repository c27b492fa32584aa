"""The README and the pages in docs/, taken apart for the tests that hold them against the code."""

import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[3]
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "agents.md").read_text(encoding="utf-8")
DEMO = (ROOT / "docs" / "demo.md").read_text(encoding="utf-8")


def blocks(language: str, page: str = README) -> list[str]:
    """The fenced blocks of a language, in their order."""
    found: list[str] = []
    inside: str | None = None
    lines: list[str] = []
    for line in page.splitlines(keepends=True):
        if not line.startswith("```"):
            lines.append(line)
        elif inside is None:
            inside, lines = line[3:].strip(), []
        else:
            if inside == language:
                found.append("".join(lines))
            inside = None
    return found


def run_snippets(page: str, path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """All Python of a page as one module, run from top to bottom."""
    path.write_text("\n\n".join(blocks("python", page)))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A guild imports its agents by their names.
    monkeypatch.setitem(sys.modules, path.stem, module)
    spec.loader.exec_module(module)
    return module


def table(first_column: str, page: str) -> list[list[str]]:
    """The rows of a page's table whose head begins with ``first_column``."""
    found = re.search(rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)", page, re.MULTILINE)
    assert found, f"the page has no table of {first_column}"
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in found[1].splitlines()]


def codes(cell: str) -> list[str]:
    """What is set in code in a cell."""
    return re.findall(r"`([^`]+)`", cell)
