"""OpenAI's batch files: one request a line, one answer a line, matched by `custom_id`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.contract import check_json_value, field_messages
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..call.data_urls import without_line_breaks
from ..call.request import check_call
from ..exceptions import InvalidRequest, QueueError
from ..response import QueueChatCompletionResponse

URL = "/v1/chat/completions"
#: Of a request's body, what is no parameter of the call.
_NOT_PARAMS = ("model", "stream", "stream_options")
_OK = 200
#: What Python makes of bytes that it cannot decode; UTF-8 has no form for it.
_UNDECODED = re.compile("[\ud800-\udfff]")
#: What the response has beyond OpenAI's, shown beside the body.
_OURS = ("job_id", "cost_usd", "queue_wait_s", "run_time_s", "possible_duplicate_charge")
_NOT_OPENAIS = {*_OURS, "cached_tokens", "reasoning_tokens", "attempts", "worker", "input_messages"}


@dataclass(frozen=True)
class RequestLine:
    """A line of the input file."""

    #: From 1.
    number: int
    custom_id: str | None = None
    body: dict[str, Any] | None = None
    #: Why it is no request, None when it is one.
    trouble: str | None = None

    @property
    def fingerprint(self) -> str:
        """The same for the same request under the same id."""
        text = json.dumps([self.custom_id, self.body], sort_keys=True)
        return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def read_requests(lines: Iterable[str]) -> Iterator[RequestLine]:
    """The requests of a file; a broken line is one with its trouble, and stops nothing."""
    seen: set[str] = set()
    for number, text in enumerate(lines, start=1):
        if not text.strip():
            continue
        line = _request(number, text)
        if line.trouble is None and line.custom_id in seen:
            line = RequestLine(number, line.custom_id, trouble="custom_id: an earlier line has the same")
        if line.custom_id is not None:
            seen.add(line.custom_id)
        yield line


def _request(number: int, text: str) -> RequestLine:
    if _UNDECODED.search(text):
        # Mended, it would be billed for a prompt that nobody wrote.
        return RequestLine(number, trouble="not UTF-8")
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError):
        return RequestLine(number, trouble="not JSON")
    if not isinstance(entry, dict):
        return RequestLine(number, trouble="not a JSON object")
    custom_id, body = entry.get("custom_id"), entry.get("body")
    if not isinstance(custom_id, str) or not custom_id:
        return RequestLine(number, trouble="custom_id: missing, or not a text")
    trouble = None
    if entry.get("method", "POST") != "POST":
        trouble = "method: only POST"
    elif entry.get("url", URL) != URL:
        trouble = f"url: only {URL}"
    elif not isinstance(body, dict):
        trouble = "body: missing, or not an object"
    elif body.get("stream"):
        trouble = "stream: a batch is not streamed"
    return RequestLine(number, custom_id, body if trouble is None else None, trouble)


def call_of(line: RequestLine, settings: QueueSettings, *, model: str | None) -> CompletionCall:
    """The call that a line asks for, its parameters as they stand.

    Args:
        model: for a body that names none.

    Raises `InvalidRequest`, `LimitExceeded`.
    """
    if line.body is None:
        raise InvalidRequest(f"line {line.number}: {line.trouble}")
    messages, name = line.body.get("messages"), line.body.get("model", model)
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise InvalidRequest("messages: give a list of at least one")
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest("model: missing; name one in the body, or for all with --model")
    params = {key: value for key, value in line.body.items() if key not in _NOT_PARAMS and value is not None}
    try:
        check_json_value(params, field="body")
        call = CompletionCall(model=name.strip(), params=without_line_breaks(params))
    except ValidationError as error:
        raise InvalidRequest(field_messages(error)) from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    check_call(call, settings)
    return call


def answer_line(line: RequestLine, response: QueueChatCompletionResponse) -> str:
    """The output's line for an answer."""
    body = {"object": "chat.completion"} | response.model_dump(
        mode="json", exclude=_NOT_OPENAIS, exclude_none=True
    )
    ours = response.model_dump(mode="json", include=set(_OURS))
    ours["attempts"] = len(response.attempts)
    answer = {"status_code": _OK, "request_id": response.job_id, "body": body}
    return _line(line, {"response": answer, "error": None, "llm_queue": ours}, response.job_id)


def error_line(line: RequestLine, error: Exception) -> str:
    """The output's line for a request that was not answered."""
    job_id = error.job_id if isinstance(error, QueueError) else None
    told = {"message": str(error), "type": str(getattr(error, "type", type(error).__name__))}
    status = getattr(error, "provider_status", None)
    if status is None:
        ending: dict[str, Any] = {"response": None, "error": {"code": told["type"], **told}}
    else:
        # As OpenAI has it: the provider's refusal is a response.
        facts = {name: getattr(error, name, None) for name in ("param", "code")}
        answer = {"status_code": status, "request_id": job_id, "body": {"error": {**told, **facts}}}
        ending = {"response": answer, "error": None}
    return _line(line, {**ending, "line": line.number}, job_id)


def answered(text: str) -> str | None:
    """The `custom_id` that a line of an output file answers; None for an error, or half a line."""
    try:
        entry = json.loads(text)
        return str(entry["custom_id"]) if entry["response"]["status_code"] == _OK else None
    except (ValueError, TypeError, KeyError):
        return None


def _line(line: RequestLine, ending: dict[str, Any], job_id: str | None) -> str:
    entry = {"id": f"batch_req_{job_id or line.number}", "custom_id": line.custom_id, **ending}
    return json.dumps(entry, ensure_ascii=False) + "\n"
