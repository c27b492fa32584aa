"""A new kind of failure touches three files: the kind, its exception, and the list of public names."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PARTS = ("tasks", "resolver", "worker")
PACKAGE = Path("rustic_ai", "llm_queue")
#: File, the text before which the new one goes, and the new one.
CHANGES = (
    (
        PACKAGE / "tasks" / "error_kind.py",
        "    # Only a queue can answer",
        '    OVERLOADED = "overloaded", Next.RETRY, 529\n\n',
    ),
    (
        PACKAGE / "resolver" / "exceptions.py",
        "class ResponseProcessingError(",
        "class Overloaded(InternalServerError, kind=ErrorKind.OVERLOADED):\n"
        '    """The provider has too much to do."""\n\n\n',
    ),
    (
        PACKAGE / "resolver" / "__init__.pyi",
        "    PermissionDeniedError as",
        "    Overloaded as Overloaded,\n",
    ),
)
USE = """
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage
from rustic_ai.llm_queue.resolver import ErrorKind, Overloaded, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.worker.attempts.retry import Backoff, decide
from rustic_ai.llm_queue.worker.provider.failures.classify import classify
import openai, httpx
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber

with InMemoryQueue().fail(ErrorKind.OVERLOADED, "too much") as queue:
    request = ChatCompletionRequest(messages=[UserMessage(content="?")])
    try:
        QueueLLMResolver("m").resolve("o", "g", "a").completion(request)
    except Overloaded as error:
        print(error.kind, error.provider_status, error.status_code, len(error.attempts))

envelope = ErrorEnvelope(kind=ErrorKind.OVERLOADED, message="too much")
decision = decide(envelope, failures=1, max_retries=2, more_models=False, remaining_s=9.0,
                  backoff=Backoff(0.5, 5.0), random=lambda: 0.5)
print(decision.next)

refused = httpx.Response(529, request=httpx.Request("POST", "http://x"))
print(classify(openai.APIStatusError("no", response=refused, body=None),
               model="m", provider=None, scrubber=Scrubber()).kind)
"""


@pytest.fixture
def changed_tree(tmp_path: Path) -> Path:
    """A copy of the sources with the new kind in them."""
    for part in PARTS:
        source = ROOT / part / "src" / PACKAGE / part
        shutil.copytree(source, tmp_path / PACKAGE / part, ignore=shutil.ignore_patterns("__pycache__"))
    for path, before, added in CHANGES:
        file = tmp_path / path
        text = file.read_text()
        assert text.count(before) == 1, path
        file.write_text(text.replace(before, added + before))
    return tmp_path


def test_three_files_are_all_a_new_kind_touches(changed_tree: Path) -> None:
    env = {**os.environ, "PYTHONPATH": str(changed_tree)}
    done = subprocess.run([sys.executable, "-c", USE], env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == ["overloaded 529 500 1", "Next.RETRY", "overloaded"]
