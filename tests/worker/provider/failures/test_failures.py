"""Every exception LiteLLM or openai can raise has a kind of its own, and its text holds no key."""

import asyncio
import inspect
import json

import httpx
import litellm
import openai
import pytest
from litellm import exceptions as litellm_exceptions

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber
from rustic_ai.llm_queue.worker.provider.failures.classify import KINDS, classify, kind_of

#: Not about calls of ours: LiteLLM exports Python's own class, and openai guards its module-level client.
FOREIGN = {"ZoneInfoNotFoundError", "_AmbiguousModuleClientUsageError"}

#: Of cookie jars, websockets, uploads and servers, none of which are in a call's way.
ELSEWHERE = {
    "BadContentDispositionHeader",
    "BadContentDispositionParam",
    "CookieConflict",
    "WSMessageTypeError",
    "WebSocketError",
}


def _exported(module: object) -> dict[str, type[BaseException]]:
    found = {}
    for name in dir(module):
        value = getattr(module, name, None)
        if inspect.isclass(value) and issubclass(value, BaseException) and name not in FOREIGN:
            found[name] = value
    return found


@pytest.mark.parametrize("module", [litellm, litellm_exceptions, openai], ids=lambda module: module.__name__)
def test_every_exported_exception_is_mapped(module: object) -> None:
    exported = _exported(module)
    assert len(exported) > 15
    unmapped = [name for name, value in exported.items() if value not in KINDS]
    assert not unmapped, f"new exceptions without a kind: {unmapped}"


def test_every_exception_of_the_layers_below_has_a_kind() -> None:
    import aiohttp

    for module in (httpx, aiohttp):
        for name, value in _exported(module).items():
            if issubclass(value, Exception) and not issubclass(value, Warning) and name not in ELSEWHERE:
                assert kind_of(value) is not ErrorKind.WORKER_FAULT, name


@pytest.mark.parametrize(
    ("cls", "kind"),
    [
        (litellm.ContextWindowExceededError, ErrorKind.CONTEXT_WINDOW),
        (litellm.ContentPolicyViolationError, ErrorKind.CONTENT_POLICY),
        (litellm.RateLimitError, ErrorKind.RATE_LIMIT),
        (litellm.Timeout, ErrorKind.TIMEOUT),
        (openai.ConflictError, ErrorKind.CONFLICT),
        (ConnectionResetError, ErrorKind.CONNECTION),
        (asyncio.TimeoutError, ErrorKind.TIMEOUT),
        (json.JSONDecodeError, ErrorKind.RESPONSE_PROCESSING),
        (ZeroDivisionError, ErrorKind.WORKER_FAULT),
    ],
)
def test_the_nearest_class_decides(cls: type[BaseException], kind: ErrorKind) -> None:
    assert kind_of(cls) is kind

    class Derived(cls):  # type: ignore[misc,valid-type]  # a class of the caller's
        pass

    assert kind_of(Derived) is kind


def _classify(error: Exception, *secrets: str) -> ErrorEnvelope:
    return classify(error, model="openai/gpt-4o", provider="openai", scrubber=Scrubber(secrets))


def _status_error(
    status: int, headers: dict[str, str] | None = None, body: object = None
) -> openai.APIStatusError:
    request = httpx.Request("POST", "https://llm.example/v1/chat/completions")
    response = httpx.Response(status, headers=headers, request=request, json=body)
    return openai.APIStatusError("said the provider", response=response, body=body)


def test_a_status_that_came_back_goes_before_the_class() -> None:
    try:
        try:
            raise _status_error(403, {"retry-after": "3"})
        except openai.APIStatusError:
            raise litellm.BadRequestError("no", model="m", llm_provider="p") from None
    except litellm.BadRequestError as error:
        envelope = _classify(error)
    assert (envelope.kind, envelope.provider_status, envelope.retry_after_s) == (
        ErrorKind.PERMISSION_DENIED,
        403,
        3,
    )


def test_a_status_that_litellm_made_up_is_not_reported() -> None:
    envelope = _classify(litellm.APIConnectionError("cannot connect", llm_provider="openai", model="m"))
    assert (envelope.kind, envelope.provider_status) == (ErrorKind.CONNECTION, None)


def test_a_failure_in_mid_stream_is_named_by_its_cause() -> None:
    inner = litellm.RateLimitError("slow down", llm_provider="openai", model="m")
    outer = litellm_exceptions.MidStreamFallbackError(
        message="wrapped", model="m", llm_provider="openai", original_exception=inner
    )
    envelope = _classify(outer)
    assert (envelope.kind, envelope.message) == (ErrorKind.RATE_LIMIT, "slow down")


@pytest.mark.parametrize(
    ("text", "message", "code"),
    [
        ("litellm.RateLimitError: RateLimitError: OpenAIException - slow down", "slow down", None),
        ("AzureException AuthenticationError - who are you", "who are you", None),
        (
            'AnthropicException - b\'{"error":{"type":"overloaded","message":"Over\\xc3\\xb6"}}\'',
            "Overö",
            "overloaded",
        ),
        (
            'GeminiException - {"error": {"code": 429, "message": "quota", "status": "RESOURCE_EXHAUSTED"}}',
            "quota",
            "RESOURCE_EXHAUSTED",
        ),
        ('HuggingfaceException - {"error": "Rate limit reached"}', "Rate limit reached", None),
        ('CohereException - {"id": "1", "message": "invalid api token"}', "invalid api token", None),
        ("OpenAIException - {not json", "{not json", None),
        ('boom\nTraceback (most recent call last):\n  File "/home/me/x.py", line 1', "boom", None),
        ("", "APIConnectionError", None),
    ],
)
def test_a_message_is_the_providers_own_words(text: str, message: str, code: str | None) -> None:
    error = litellm.APIConnectionError("x", llm_provider="openai", model="m")
    error.message = text
    error.args = (text,)
    envelope = _classify(error)
    assert (envelope.message, envelope.code) == (message, code)


def test_the_providers_code_and_parameter_come_along() -> None:
    body = {
        "error": {"message": "too long", "code": "context_length_exceeded", "param": "messages", "type": "x"}
    }
    envelope = _classify(_status_error(400, body=body))
    assert (envelope.code, envelope.param, envelope.message) == (
        "context_length_exceeded",
        "messages",
        "too long",
    )


@pytest.mark.parametrize(
    "leak",
    [
        "Authorization: Bearer abcdefghijkl",
        "Incorrect API key provided: sk-proj-abcdefghijklmnop",
        "Incorrect API key provided: sk-abc***************wxyz",
        "key AIzaSyA-abcdefghijklmnopqrstuvwxyz012",
        "https://host/v1/models?key=abcdef123456&alt=sse",
        "https://user:hunter2-long@host/v1",
        "{'x-api-key': 'abcdef123456'}",
        '"api_key": "abcdef123456"',
        "gsk_abcdefghijklmnop, hf_abcdefghijklmnop, xai-abcdefghijklmnop",
        "AKIAABCDEFGHIJKLMNOP",
        "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.abc",
    ],
)
def test_no_key_by_its_shape(leak: str) -> None:
    shown = _classify(_status_error(500, body={"error": {"message": leak}})).message
    for part in ("abcdef", "hunter2", "AKIA", "AIza", "eyJ", "wxyz"):
        assert part not in shown
    assert "[removed]" in shown


def test_no_key_by_its_value() -> None:
    envelope = _classify(
        ValueError("odd secret horse-battery-staple here"), "horse-battery-staple", "horse-batt"
    )
    assert envelope.message == "odd secret [removed] here"


def test_ordinary_words_stay() -> None:
    text = (
        "The model `gpt-4o-mini` took 30 tokens; see https://host.example/docs?page=2#keys (request req_123)."
    )
    assert (
        Scrubber.of_environment({"API_KEY": "short", "HOME": "/home/longer-than-eight"}).scrub(text) == text
    )


def test_a_long_message_is_cut() -> None:
    assert len(_classify(ValueError("word " * 1_000_000)).message) <= 2_000
