"""What may arrive over the broker, and nothing else: parsing apart from transport."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping
from typing import Any

from kombu.utils import json as kombu_json

from rustic_ai.llm_queue.tasks.ledger.wakeup_message import EMBEDDED, wakeup_envelope
from rustic_ai.llm_queue.tasks.names import TASK_NAME

#: A wake-up is about 1.3 kB; what is larger is not one.
MAX_MESSAGE_BYTES = 64 * 1024
_MAX_TEXT = 4_000
_MAX_CLOCK = 2**62

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
#: Celery options that would keep a message in a worker's memory or start other tasks.
_NEVER = ("eta", "expires", "group", "group_index", "shadow", "stamped_headers")
#: Trace context, as OpenTelemetry puts it into Celery's headers.
_PASSED_ON = ("traceparent", "tracestate", "baggage")
_METHOD = re.compile(r"[a-z_]{1,64}")
_CONTROL_FIELDS = {"method", "arguments", "destination", "pattern", "matcher", "ticket", "reply_to"}


class InvalidMessage(ValueError):
    """A message that is not ours. The reason never quotes the message."""


def parse_wakeup(raw: bytes, queue: str) -> dict[str, Any]:
    """The kombu envelope of a valid wake-up, built anew from what was checked.

    Raises `InvalidMessage` for anything but one call of `TASK_NAME` with a job id.
    """
    envelope = _load_envelope(raw)
    headers = _mapping(envelope.get("headers"), "headers")
    _require(headers.get("task") == TASK_NAME, "another task")
    job_id = headers.get("id")
    _require(isinstance(job_id, str) and _UUID.fullmatch(job_id) is not None, "id is not a UUID")
    assert isinstance(job_id, str)
    for name in _NEVER:
        _require(not headers.get(name), f"header {name} is not accepted")
    _require(headers.get("timelimit") in (None, [None, None]), "header timelimit is not accepted")
    _require(headers.get("retries") in (None, 0), "header retries is not accepted")
    _check_body(envelope, job_id)
    properties = _mapping(envelope.get("properties"), "properties")
    priority = properties.get("priority", 0)
    _require(priority is None or (type(priority) is int and 0 <= priority <= 9), "priority is not 0-9")
    return wakeup_envelope(
        job_id,
        queue,
        int(properties.get("priority") or 0),
        argsrepr=_text(headers, "argsrepr") or "",
        kwargsrepr=_text(headers, "kwargsrepr") or "",
        root_id=_text(headers, "root_id") or job_id,
        parent_id=_text(headers, "parent_id"),
        origin=_text(headers, "origin"),
        ignore_result=headers.get("ignore_result") is True,
        **{name: value for name in _PASSED_ON if (value := _text(headers, name))},
    )


def parse_broadcast(raw: bytes, exchange: str) -> dict[str, Any]:
    """The envelope of a remote-control command, a reply to one, or an event.

    Raises `InvalidMessage` when decoding or dispatching it could break a worker.
    """
    envelope = _load_envelope(raw)
    properties = _mapping(envelope.get("properties"), "properties")
    headers = _mapping(envelope.get("headers"), "headers")
    body = _load_body(envelope)
    try:
        # kombu turns some objects into other types when it decodes; where it fails, it logs the body.
        kombu_json.loads(json.dumps(body))
    except Exception:
        raise InvalidMessage("body holds a type that does not decode") from None
    if exchange.endswith(".pidbox") and not exchange.startswith("reply."):
        _check_command(_mapping(body, "body"))
    clock = headers.get("clock") or 0
    _require(type(clock) is int and 0 <= clock < _MAX_CLOCK, "clock is not a number")
    info = _mapping(properties.get("delivery_info") or {}, "delivery info")
    tag = properties.get("delivery_tag")
    _require(isinstance(tag, str), "delivery tag is missing")
    return {
        "body": envelope["body"],
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": dict(headers),
        "properties": {
            "body_encoding": "base64",
            "delivery_tag": tag,
            "delivery_info": {"exchange": exchange, "routing_key": _text(info, "routing_key") or ""},
        },
    }


def _load_envelope(raw: bytes) -> Mapping[str, Any]:
    _require(len(raw) <= MAX_MESSAGE_BYTES, "too large")
    return _mapping(_load_json(raw), "message")


def _load_body(envelope: Mapping[str, Any]) -> Any:
    _require(envelope.get("content-type") == "application/json", "content type is not JSON")
    _require(envelope.get("content-encoding") == "utf-8", "content encoding is not UTF-8")
    properties = _mapping(envelope.get("properties"), "properties")
    _require(properties.get("body_encoding") == "base64", "body encoding is not base64")
    body = envelope.get("body")
    _require(isinstance(body, str), "body is not text")
    try:
        decoded = base64.b64decode(str(body), validate=True)
    except ValueError:
        raise InvalidMessage("body is not base64") from None
    return _load_json(decoded)


def _load_json(raw: bytes) -> Any:
    # Errors of the decoders quote what they could not read: none is chained.
    try:
        return json.loads(raw.decode("utf-8"))
    except RecursionError:
        raise InvalidMessage("nested too deeply") from None
    except ValueError:
        raise InvalidMessage("not JSON") from None


def _check_body(envelope: Mapping[str, Any], job_id: str) -> None:
    body = _load_body(envelope)
    _require(isinstance(body, list) and len(body) == 3, "body is not a call")
    args, kwargs, embed = body
    _require(args == [job_id], "arguments are not the job id")
    _require(kwargs == {}, "keyword arguments are not accepted")
    for name, value in _mapping(embed, "options").items():
        _require(name in EMBEDDED and not value, "callbacks, chains and chords are not accepted")


def _check_command(body: Mapping[str, Any]) -> None:
    _require(set(body) <= _CONTROL_FIELDS, "unknown field in a command")
    method = body.get("method")
    _require(isinstance(method, str) and _METHOD.fullmatch(method) is not None, "command has no method")
    _require(isinstance(body.get("arguments") or {}, dict), "arguments are not a mapping")
    destination = body.get("destination") or []
    _require(
        isinstance(destination, list) and all(isinstance(name, str) for name in destination),
        "destination is not a list of names",
    )
    for name in ("pattern", "matcher", "ticket"):
        _text(body, name)
    if reply_to := body.get("reply_to"):
        target = _mapping(reply_to, "reply_to")
        _require(
            set(target) == {"exchange", "routing_key"} and all(isinstance(v, str) for v in target.values()),
            "reply_to is not an address",
        )


def _text(fields: Mapping[str, Any], name: str) -> str | None:
    value = fields.get(name)
    if value is None:
        return None
    _require(isinstance(value, str), f"{name} is not text")
    # For people's eyes only: too long is no reason to lose a job.
    return str(value)[:_MAX_TEXT]


def _mapping(value: Any, name: str) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise InvalidMessage(f"{name} is not a mapping")
    return value


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise InvalidMessage(reason)
