"""The messages that docs/troubleshooting.md quotes are those of the code."""

import ast
import re
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.worker.pool.shutdown import EXIT_HARD_STOP
from support.documents.readme import ROOT

PAGE = (ROOT / "docs" / "troubleshooting.md").read_text(encoding="utf-8")
#: What stands for a name or a number, in the page and here.
GAP = "…"
_FORMATS = re.compile(r"%[-0-9.]*[sdrgf]")


def said() -> Iterator[str]:
    """Every text of the code, whatever varies in it replaced by a gap."""
    for part in ("tasks", "resolver", "worker"):
        for path in (ROOT / part / "src").rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.JoinedStr):
                    texts = [one.value if isinstance(one, ast.Constant) else GAP for one in node.values]
                    yield "".join(map(str, texts))
                elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                    yield _FORMATS.sub(GAP, node.value)
    for path in (ROOT / "worker" / "src").rglob("*.html"):
        yield path.read_text(encoding="utf-8")


SAID = [text.replace("`", "") for text in said()]
_TABLE_ROW = re.compile(r"^\| `([^`]+)` \|", re.MULTILINE)
_BESIDE_A_CODE = re.compile(r"^\| \d[^|]*\| `([^`]+)` \|", re.MULTILINE)
_IN_A_LIST = re.compile(r"^- `([^`]+)`$", re.MULTILINE)
QUOTED = [
    " ".join(message.split())
    for form in (_TABLE_ROW, _BESIDE_A_CODE, _IN_A_LIST)
    for message in form.findall(PAGE)
]


def is_said(message: str) -> bool:
    """Whether the code has all of a message, piece by piece: what follows a colon is often another text."""
    pieces = [piece.strip() for piece in re.split(f"{GAP}|: ", message) if re.search(r"\w{3}", piece)]
    return bool(pieces) and all(any(piece in text for text in SAID) for piece in pieces)


def test_many_are_quoted() -> None:
    assert len(QUOTED) > 50
    assert not is_said("Redis is out of patience and takes no more jobs")


@pytest.mark.parametrize("message", QUOTED)
def test_what_is_quoted_is_what_is_said(message: str) -> None:
    assert is_said(message)


def test_exit_codes_are_the_workers() -> None:
    codes = dict(re.findall(r"^\| (\d)[^|]*\| `([^`]+)`", PAGE, re.MULTILINE))
    assert codes.keys() == {"3", "4", "1", "0"}
    assert (ExitCode.SETTINGS, ExitCode.REDIS, EXIT_HARD_STOP) == (3, 4, 1)
    assert "hard deadline" in codes["1"]
