"""Whatever is logged, and to whatever handler: no key and no prompt is in it."""

import io
import json
import logging
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.tasks.privacy.redaction import RedactingFilter, get_logger, stand_in
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber
from rustic_ai.llm_queue.tasks.privacy.seal import SealError, make_key

KEY = "sk-canary-0123456789abcdef"
PROMPT = "canary prompt: my mother's maiden name"


@pytest.fixture
def lines() -> Iterator[io.StringIO]:
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    root = logging.getLogger()
    root.addHandler(handler)
    yield stream
    root.removeHandler(handler)


@pytest.fixture
def logger() -> logging.Logger:
    logger = get_logger("rustic_ai.llm_queue.tests_of_redaction")
    logger.setLevel(logging.DEBUG)
    return logger


@pytest.mark.parametrize(
    "secret",
    [
        KEY,
        "Bearer abcdef0123456789",
        "AIzaSyCanary0123456789",
        "https://host/?api_key=canary-key-1",
        "redis://user:canary-password@host:6379/0",
        '"api_key": "canarykey1"',
    ],
)
def test_a_key_is_taken_out_of_message_arguments_and_traceback(
    logger: logging.Logger, lines: io.StringIO, secret: str
) -> None:
    logger.info("sent %s", secret)
    logger.info("sent " + secret.replace("%", "%%"))
    logger.warning("sent %(key)s", {"key": secret})
    try:
        raise OSError(secret)
    except OSError:
        logger.exception("failed")
    written = lines.getvalue()
    assert "canary" not in written.lower()
    assert "abcdef0123456789" not in written
    assert written.count("sent") == 3


def test_a_value_of_the_environment_is_known_whatever_its_shape(
    logger: logging.Logger, lines: io.StringIO, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = make_key(), make_key()
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", f"{first},{second}")
    monkeypatch.setenv("SOME_PROVIDERS_TOKEN", "no particular shape")
    logger.info("%s | %s", second.partition(":")[2], "no particular shape")
    assert lines.getvalue() == "[removed] | [removed]\n"


def test_an_exception_keeps_its_name_frames_and_causes_but_not_its_words(
    logger: logging.Logger, lines: io.StringIO
) -> None:
    try:
        try:
            json.loads(PROMPT)
        except ValueError as error:
            raise KeyError(PROMPT) from error
    except KeyError:
        logger.exception("Job 1 failed")
    written = lines.getvalue()
    assert PROMPT not in written
    for part in (
        "Job 1 failed",
        "json.decoder.JSONDecodeError",
        "KeyError",
        "direct cause",
        __file__,
        "withheld",
    ):
        assert part in written


def test_words_about_connections_and_our_own_are_kept(logger: logging.Logger, lines: io.StringIO) -> None:
    for error in (ConnectionRefusedError(111, "Connection refused"), SealError("it was altered or moved")):
        logger.error("failed", exc_info=error)
    assert "Connection refused" in lines.getvalue()
    assert "it was altered or moved" in lines.getvalue()


def test_an_exception_that_is_its_own_cause_ends() -> None:
    first, second = ValueError(PROMPT), ValueError(PROMPT)
    first.__cause__, second.__cause__ = second, first
    shown = stand_in(first, Scrubber())
    assert shown.__cause__ is not None
    assert shown.__cause__.__cause__ is shown


def test_a_record_that_does_not_format_shows_no_argument(
    logger: logging.Logger, lines: io.StringIO, capsys: pytest.CaptureFixture[str]
) -> None:
    logger.info("%d", PROMPT)
    assert PROMPT not in lines.getvalue() + capsys.readouterr().err
    assert "does not format" in lines.getvalue()


def test_the_record_of_other_handlers_stays_as_it_was() -> None:
    record = logging.LogRecord("x", logging.INFO, "f", 1, "sent %s", (KEY,), None)
    assert RedactingFilter().filter(record).getMessage() == "sent [removed]"
    assert record.getMessage() == f"sent {KEY}"


def test_asking_twice_filters_once() -> None:
    assert get_logger("rustic_ai.llm_queue.twice") is get_logger("rustic_ai.llm_queue.twice")
    assert len(get_logger("rustic_ai.llm_queue.twice").filters) == 1
