"""A worker's handlers let nothing through unredacted, in either format."""

import io
import json
import logging

import pytest

from rustic_ai.llm_queue.worker.settings import WorkerSettings
from rustic_ai.llm_queue.worker.telemetry.log_format import LogFormat

KEY, PROMPT = "sk-canary-0123456789abcdef", "canary prompt"


@pytest.mark.parametrize("log_format", ["human", "json"])
def test_a_line_of_any_logger_is_redacted(log_format: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_API_KEY", "a value without the shape of a key")
    stream = io.StringIO()
    logger = logging.Logger("somebody.elses", logging.DEBUG)
    logger.addHandler(logging.StreamHandler(stream))
    # Celery calls it for each logger it sets up, and more than once.
    fmt = LogFormat(WorkerSettings.model_validate({"log_format": log_format}))
    fmt.set_up(logger)
    fmt.set_up(logger)
    assert [len(one.filters) for one in logger.handlers] == [1]

    logger.debug("sent %s and %s", KEY, "a value without the shape of a key")
    try:
        raise ValueError(PROMPT)
    except ValueError:
        logger.exception("failed", extra={"job": {"model": KEY}})

    written = stream.getvalue()
    assert KEY not in written
    assert PROMPT not in written
    assert "without the shape" not in written
    assert "ValueError" in written
    if log_format == "json":
        assert [json.loads(line)["level"] for line in written.splitlines()] == ["DEBUG", "ERROR"]
