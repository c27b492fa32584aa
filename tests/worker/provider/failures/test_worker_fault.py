"""A failure of the worker's own is named so, logged once, and neither retried nor billed again."""

import logging
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.worker.provider import provider as provider_module
from rustic_ai.llm_queue.worker.provider.answers import stream_chunks
from rustic_ai.llm_queue.worker.provider.litellm_api import fast_path, seam
from support.workers.attempt_kit import MODELS, Bench, NotedSink

CANARY = "canary words of an answer"


def _planted(*_: Any, **__: Any) -> Any:
    raise KeyError(CANARY)


async def assert_own_fault(
    bench: Bench, caplog: pytest.LogCaptureFixture, *models: str, sink: NotedSink | None = None
) -> None:
    caplog.set_level(logging.INFO)
    envelope = await bench.failure("hello #fault", *models, MODELS["anthropic"], sink=sink)
    assert envelope.kind is ErrorKind.WORKER_FAULT
    assert envelope.message == "The worker failed on this job (KeyError); its log has the details."
    assert len(bench.stub.requests("fault")) == 1
    (record,) = [one for one in caplog.records if one.exc_info]
    assert "test_worker_fault.py" in caplog.text, "the traceback shows where"
    assert CANARY not in caplog.text
    assert record.levelno == logging.ERROR


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini"])
async def test_a_bug_in_the_reading_of_an_answer_is_billed_once(
    bench: Bench, name: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(provider_module, "plain_response", _planted)
    await assert_own_fault(bench, caplog, MODELS[name])


async def test_so_is_one_in_the_fast_path(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(fast_path, "_read", _planted)
    await assert_own_fault(bench, caplog, MODELS["openai"])


async def test_so_is_one_in_the_reading_of_a_stream(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stream_chunks.ChunkReader, "read", _planted)
    await assert_own_fault(bench, caplog, MODELS["openai"], sink=NotedSink())


async def test_so_is_one_where_litellm_was_replaced(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(seam, "ModelResponse", _planted)
    await assert_own_fault(bench, caplog, MODELS["openai"])


async def test_a_bug_before_the_post_is_no_failure_of_the_providers(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(seam, "validate_and_fix_openai_messages", _planted)
    envelope = await bench.failure("hello #early")
    assert envelope.kind is ErrorKind.WORKER_FAULT
    assert bench.stub.requests("early") == []
