"""What each side may import: an agent's environment has no LiteLLM, a worker's no Rustic AI."""

import subprocess
import sys

import pytest

HEAVY = ("litellm", "rustic_ai.core", "celery", "kombu", "openai")

LOADED = """
import importlib, pkgutil, sys
package = importlib.import_module("rustic_ai.llm_queue.{package}")
if {everything}:
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not module.name.endswith("__main__"):
            importlib.import_module(module.name)
print(*[name for name in {heavy} if name in sys.modules])
"""


def loaded(package: str, *, everything: bool) -> set[str]:
    """Which of the heavy libraries are there once the package, or all of its modules, is imported."""
    code = LOADED.format(package=package, everything=everything, heavy=HEAVY)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr
    return set(done.stdout.split())


@pytest.mark.parametrize(
    ("package", "everything", "forbidden"),
    [
        ("tasks", True, {"litellm", "rustic_ai.core", "openai", "celery", "kombu"}),
        ("resolver", True, {"litellm", "celery", "kombu"}),
        ("resolver", False, {"litellm", "celery", "openai"}),
        ("worker", True, {"rustic_ai.core"}),
        ("worker.app", False, {"litellm", "rustic_ai.core"}),
        ("worker.cli", False, {"litellm", "rustic_ai.core"}),
    ],
)
def test_each_side_imports_only_what_it_may(package: str, everything: bool, forbidden: set[str]) -> None:
    assert loaded(package, everything=everything) & forbidden == set()
