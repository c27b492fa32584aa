"""Docstrings in a form that tools can read."""

import ast
import inspect
from collections.abc import Iterator
from pathlib import Path

import pytest

from rustic_ai.llm_queue import resolver, tasks

SOURCES = [
    source for package in (resolver, tasks) for source in sorted(Path(package.__path__[0]).rglob("*.py"))
]


def docstrings(source: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(source.read_text(encoding="utf-8"))):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef | ast.Module):
            yield inspect.cleandoc(ast.get_docstring(node, clean=False) or "")


@pytest.mark.parametrize("source", SOURCES, ids=lambda source: source.stem)
def test_arguments_stand_in_a_block_below_their_heading(source: Path) -> None:
    for text in docstrings(source):
        lines = text.splitlines()
        for at, line in enumerate(lines):
            if line in ("Args:", "Attributes:"):
                assert lines[at + 1].startswith("    "), f"{source.name}: {text}"
