"""The README, taken apart for the tests that hold it against the code."""

import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    """The fenced blocks of a language, in their order."""
    found: list[str] = []
    inside: str | None = None
    lines: list[str] = []
    for line in README.splitlines(keepends=True):
        if not line.startswith("```"):
            lines.append(line)
        elif inside is None:
            inside, lines = line[3:].strip(), []
        else:
            if inside == language:
                found.append("".join(lines))
            inside = None
    return found


def table(first_column: str) -> list[list[str]]:
    """The rows of the table whose head begins with ``first_column``."""
    found = re.search(rf"^\| {first_column} \|.*\n\|[-|]+\n((?:\|.*\n)+)", README, re.MULTILINE)
    assert found, f"the README has no table of {first_column}"
    return [[cell.strip() for cell in line.strip("|\n").split(" | ")] for line in found[1].splitlines()]


def codes(cell: str) -> list[str]:
    """What is set in code in a cell."""
    return re.findall(r"`([^`]+)`", cell)
