"""No text takes a pattern of this project more than linear time: all calls of a worker share one event loop.

Of each pattern, the text that is worst for it is looked for among thousands of short ones, and then played
at 1 MB. A pattern that takes quadratic time would need hours for that, and meets the test's time limit.
"""

import ast
import itertools
import re
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = [path for room in ("tasks", "resolver", "worker") for path in sorted((ROOT / room).rglob("*.py"))]
METHODS = ("findall", "finditer", "fullmatch", "match", "search", "split", "sub")
FILLERS = " \t\n\rabE0_-.:/=@\\\"'{[(,;?&é\u2028"
SHORT, LONG, WORST = 20_000, 1_000_000, 2


@dataclass(frozen=True)
class Use:
    """A pattern, and the ways in which its file uses it."""

    where: str
    pattern: re.Pattern[Any]
    methods: tuple[str, ...]

    def run(self, text: str) -> None:
        given = text.encode() if isinstance(self.pattern.pattern, bytes) else text
        for method in self.methods:
            call: Callable[..., Any] = getattr(self.pattern, method)
            found = call(given[:0], given) if method == "sub" else call(given)
            if method == "finditer":
                list(found)


def _uses() -> Iterator[Use]:
    for path in SOURCES:
        tree = ast.parse(path.read_text())
        used = {
            (node.func.value.id, node.func.attr)
            for node in ast.walk(tree)
            if isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and isinstance(node.func.value, ast.Name)
        }
        for node in ast.walk(tree):
            if not (isinstance(node, ast.Call) and _is_of_re(node.func)):
                continue
            assert isinstance(node.func, ast.Attribute)
            flags = [eval(ast.unparse(one), {"re": re}) for one in node.args[1:] if "re." in ast.unparse(one)]
            flags += [eval(ast.unparse(word.value), {"re": re}) for word in node.keywords]
            compiled = re.compile(ast.literal_eval(node.args[0]), *flags)
            name = _name_of(tree, node)
            methods = [method for method in METHODS if (name, method) in used]
            if node.func.attr != "compile":
                methods = [node.func.attr]
            where = f"{path.relative_to(ROOT).parts[0]}/{path.stem}:{node.lineno}"
            # One in a table is used by its name there.
            yield Use(where, compiled, tuple(methods) or ("sub", "search"))


def _is_of_re(func: ast.AST) -> bool:
    return (
        isinstance(func, ast.Attribute)
        and isinstance(func.value, ast.Name)
        and func.value.id == "re"
        and func.attr in (*METHODS, "compile")
    )


def _name_of(tree: ast.Module, call: ast.Call) -> str | None:
    for node in tree.body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name) and node.value is call:
            return node.targets[0].id
        if (
            isinstance(node, ast.Assign)
            and isinstance(node.targets[0], ast.Tuple)
            and isinstance(node.value, ast.Tuple)
            and call in node.value.elts
        ):
            target = node.targets[0].elts[node.value.elts.index(call)]
            return target.id if isinstance(target, ast.Name) else None
    return None


def _texts(pattern: re.Pattern[Any], size: int) -> Iterator[str]:
    source = pattern.pattern.decode() if isinstance(pattern.pattern, bytes) else pattern.pattern
    words = ["", *dict.fromkeys(re.findall(r"\w{2,}", re.sub(r"\\[a-zA-Z]|\(\?[a-z]+\)", " ", source)))][:16]
    for word, filler in itertools.product(words, FILLERS):
        yield word + filler * size
        yield (word + filler) * (size // (len(word) + 1))
        yield (filler + word + "a" * 12) * (size // (len(word) + 13))


USES = list(_uses())


def test_the_patterns_are_found() -> None:
    assert len(USES) > 40
    assert any("scrub" in use.where for use in USES)


@pytest.mark.parametrize("use", USES, ids=lambda use: use.where)
def test_a_megabyte_of_the_worst_is_read(use: Use) -> None:
    took_s = []
    for number, text in enumerate(_texts(use.pattern, SHORT)):
        started_s = time.perf_counter()
        use.run(text)
        took_s.append((time.perf_counter() - started_s, number))
    worst = {number for _, number in sorted(took_s)[-WORST:]}
    for number, text in enumerate(_texts(use.pattern, LONG)):
        if number in worst:
            use.run(text)
