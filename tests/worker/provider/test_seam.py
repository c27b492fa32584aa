"""Every undocumented name of LiteLLM is bound in one file, which refuses a release that lacks one."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rustic_ai.llm_queue.worker.provider.litellm_api import seam

PROVIDER = Path(seam.__file__).parents[1]
SEAM = Path(seam.__file__)
#: What LiteLLM documents, beside what the package itself exports.
DOCUMENTED = {"litellm", "litellm.exceptions", "litellm.router"}

BREAK = """
import litellm, litellm.utils, litellm.main, litellm.llms.anthropic.chat.handler as handler
del litellm.utils.validate_openai_optional_params, litellm.main._resolve_openai_api_base, litellm.drop_params
class Renamed:
    def __init__(self):
        self._buffer = ""
handler.ModelResponseIterator = Renamed
from rustic_ai.llm_queue.worker.provider.litellm_api import seam
"""


def test_a_release_without_them_is_refused_with_all_their_names() -> None:
    ended = subprocess.run([sys.executable, "-c", BREAK], capture_output=True, text=True, check=False)
    assert ended.returncode == 1
    said = ended.stderr.splitlines()[-1]
    assert "UnsuitableLiteLLM" in said
    assert "CONTRIBUTING.md" in said
    for missing in (
        "litellm.utils:validate_openai_optional_params",
        "litellm.main:_resolve_openai_api_base",
        "litellm:drop_params",
        "litellm.llms.anthropic.chat.handler:ModelResponseIterator()._json_buffer",
    ):
        assert missing in said


@pytest.mark.parametrize("path", sorted(PROVIDER.rglob("*.py")), ids=lambda path: path.stem)
def test_no_other_file_reaches_below_the_documented_names(path: Path) -> None:
    if path != SEAM:
        assert list(_undocumented(ast.parse(path.read_text()))) == []


def _undocumented(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and not node.level:
            names = [f"{node.module}.{alias.name}" for alias in node.names if alias.name.startswith("_")]
            names.append(node.module or "")
        else:
            continue
        for name in names:
            package = name.partition(".")[0]
            private = any(part.startswith("_") for part in name.split("."))
            undocumented = package == "litellm" and name not in DOCUMENTED
            if undocumented or (private and package in ("aiohttp", "httpx", "litellm", "openai")):
                yield name
