"""OpenAI's batch files: one request a line, one answer a line, matched by `custom_id`."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, EmbeddingCall
from rustic_ai.llm_queue.tasks.contract import check_json_value, field_messages
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..call.answer_reader import AnswerReader, OutcomeReader
from ..call.data_urls import without_line_breaks
from ..call.request import check_call
from ..call.vector_reader import EmbeddingAnswer, VectorReader
from ..exceptions import InvalidRequest, QueueError
from ..response import QueueChatCompletionResponse
from .embedding_lines import embedding_body, embedding_call, embedding_facts
from .reuse_fields import take_reuse

#: What a line is answered with.
Answer = QueueChatCompletionResponse | EmbeddingAnswer

URL = "/v1/chat/completions"
EMBEDDINGS_URL = "/v1/embeddings"
#: The fields of a request's body that are no parameters of the call.
_NOT_PARAMS = ("model", "stream", "stream_options")
_OK = 200
#: What Python makes of bytes that it cannot decode; UTF-8 has no form for it.
_UNDECODED = re.compile("[\ud800-\udfff]")
#: The fields that OpenAI's response does not have, shown beside the body.
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
    #: What is asked for: `URL` or `EMBEDDINGS_URL`.
    url: str = URL

    @property
    def fingerprint(self) -> str:
        """The same for the same request under the same id."""
        other = [] if self.url == URL else [self.url]
        text = json.dumps([self.custom_id, self.body, *other], sort_keys=True)
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
    elif (url := entry.get("url", URL)) not in (URL, EMBEDDINGS_URL):
        trouble = f"url: only {URL} and {EMBEDDINGS_URL}"
    elif not isinstance(body, dict):
        trouble = "body: missing, or not an object"
    elif body.get("stream"):
        trouble = "stream: a batch is not streamed"
    if trouble is not None:
        return RequestLine(number, custom_id, trouble=trouble)
    return RequestLine(number, custom_id, body, url=url)


def call_of(line: RequestLine, settings: QueueSettings, *, model: str | None) -> Call:
    """The call that a line asks for, its parameters as they stand.

    Args:
        model: for a body that names none.

    Raises `InvalidRequest`, `LimitExceeded`.
    """
    if line.body is None:
        raise InvalidRequest(f"line {line.number}: {line.trouble}")
    name = line.body.get("model", model)
    if not isinstance(name, str) or not name.strip():
        raise InvalidRequest("model: missing; name one in the body, or for all with --model")
    params = {key: value for key, value in line.body.items() if key not in _NOT_PARAMS and value is not None}
    try:
        check_json_value(params, field="body")
        make = embedding_call if line.url == EMBEDDINGS_URL else _completion_call
        reuse = take_reuse(params)
        if line.url == EMBEDDINGS_URL and reuse is not None and reuse.single_flight:
            raise InvalidRequest("single_flight: for chat completions alone; give cache_ttl_s")
        call = make(name.strip(), params).model_copy(update={"reuse": reuse})
    except ValidationError as error:
        raise InvalidRequest(field_messages(error)) from None
    except ValueError as error:
        raise InvalidRequest(str(error)) from None
    check_call(call, settings)
    return call


def reader_of(call: Call) -> OutcomeReader[Answer]:
    """What makes a line's answer of how its job ended."""
    return VectorReader.of_call(call) if isinstance(call, EmbeddingCall) else AnswerReader()


def _completion_call(model: str, params: dict[str, Any]) -> Call:
    messages = params.get("messages")
    if not isinstance(messages, list) or not messages or not all(isinstance(one, dict) for one in messages):
        raise InvalidRequest("messages: give a list of at least one")
    return CompletionCall(model=model, params=without_line_breaks(params))


def answer_line(line: RequestLine, answer: Answer) -> str:
    """The output's line for an answer."""
    if isinstance(answer, EmbeddingAnswer):
        body, ours = embedding_body(line.body or {}, answer), embedding_facts(answer)
    else:
        body, ours = _completion_body(answer), answer.model_dump(mode="json", include=set(_OURS))
        ours["attempts"] = len(answer.attempts)
    response = {"status_code": _OK, "request_id": answer.job_id, "body": body}
    return _line(line, {"response": response, "error": None, "llm_queue": ours}, answer.job_id)


def _completion_body(response: QueueChatCompletionResponse) -> dict[str, Any]:
    return {"object": "chat.completion"} | response.model_dump(
        mode="json", exclude=_NOT_OPENAIS, exclude_none=True
    )


def error_line(line: RequestLine, error: Exception) -> str:
    """The output's line for a request that was not answered."""
    job_id = error.job_id if isinstance(error, QueueError) else None
    message = {"message": str(error), "type": str(getattr(error, "type", type(error).__name__))}
    status = getattr(error, "provider_status", None)
    if status is None:
        ending: dict[str, Any] = {"response": None, "error": {"code": message["type"], **message}}
    else:
        # As OpenAI has it: the provider's refusal is a response.
        facts = {name: getattr(error, name, None) for name in ("param", "code")}
        answer = {"status_code": status, "request_id": job_id, "body": {"error": {**message, **facts}}}
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
