"""What the package exports, and what importing it costs."""

import importlib
import inspect
import subprocess
import sys
import typing
from pathlib import Path

import pytest

from rustic_ai.llm_queue import resolver
from rustic_ai.llm_queue.resolver import exceptions

EXPECTED = {
    "AsyncCompletionStream",
    "AttemptRecord",
    "BatchItem",
    "BatchProgress",
    "CancelStream",
    "ChatCompletionChunk",
    "ChoiceDelta",
    "ChunkChoice",
    "CompletionStream",
    "ConcurrentPipelineExecutor",
    "ConfigurationError",
    "EmbeddingProperties",
    "ErrorKind",
    "FunctionDelta",
    "JobHandle",
    "JobState",
    "JobWait",
    "ProgressBar",
    "Properties",
    "QueueChatCompletionRequest",
    "QueueChatCompletionResponse",
    "QueueEmbedder",
    "QueueEmbeddings",
    "QueueEmbeddingsResolver",
    "QueueLLM",
    "QueueLLMResolver",
    "QueueUsage",
    "Restarted",
    "StreamingLLMAgent",
    "StreamingLLMAgentConfig",
    "ToolCallDelta",
}


def loaded_after(code: str) -> set[str]:
    """Which of the heavy packages a fresh interpreter has imported after `code`."""
    heavy = {"litellm", "celery", "kombu", "openai", "redis", "rustic_ai.core"}
    program = f"{code}\nimport sys\nprint(*{heavy!r}.intersection(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


def test_the_exported_members_are_these_and_every_exception() -> None:
    errors = {
        name for name, each in inspect.getmembers(exceptions, inspect.isclass)
        if each.__module__ == exceptions.__name__
    }  # fmt: skip
    assert set(resolver.__all__) == EXPECTED | errors
    assert set(dir(resolver)) >= EXPECTED


@pytest.mark.parametrize("name", resolver.__all__)
def test_every_member_is_there(name: str) -> None:
    assert getattr(resolver, name).__name__ in (name, "ChatCompletionResponse")


def test_type_checkers_see_the_same_members() -> None:
    stub = Path(resolver.__file__).with_suffix(".pyi").read_text()
    for name in resolver.__all__:
        assert f" {name} as {name}" in stub


def test_an_unknown_member_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="nonsense"):
        resolver.nonsense  # type: ignore[attr-defined]  # noqa: B018  that it fails is the test


def test_importing_the_package_imports_nothing_heavy() -> None:
    assert loaded_after("import rustic_ai.llm_queue.resolver") == set()


def test_making_a_resolver_needs_neither_celery_nor_litellm() -> None:
    code = "from rustic_ai.llm_queue.resolver import QueueLLMResolver as R; R('gpt-4').resolve('o', 'g', 'a')"
    # openai and redis come with the resolver's import, so that no call has to wait for them.
    assert loaded_after(code) <= {"rustic_ai.core", "redis", "openai"}


def test_public_members_are_documented() -> None:
    for name in resolver.__all__:
        assert inspect.getdoc(getattr(resolver, name)), name


def test_hints_of_the_public_classes_resolve() -> None:
    for name in ("QueueLLM", "JobHandle", "QueueLLMResolver"):
        kind = getattr(resolver, name)
        # A method's text does not show Python the parameters of its class.
        parameters = {one.__name__: one for one in kind.__type_params__}
        for _, method in inspect.getmembers(kind, inspect.isfunction):
            if method.__module__.startswith("rustic_ai.llm_queue"):
                typing.get_type_hints(method, localns=parameters)


def test_the_test_kit_is_a_module_of_its_own() -> None:
    assert importlib.import_module("rustic_ai.llm_queue.resolver.testing").__all__ == [
        "InMemoryQueue",
        "Step",
        "memory_queue",
    ]
