"""Answers in OpenAI's form, with each known part in its type.

LiteLLM refuses a whole answer, which is billed, for one odd part beside its text.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from typing import Any

from .finish_reasons import NATIVE_REASON, OPENAI_REASONS, openai_reason

_TEXTS = ("content", "reasoning_content", "reasoning", "refusal")
_THOUGHTS = ("thinking", "reasoning")


def mend_openai_form(answer: dict[str, Any], *, streamed: bool) -> None:
    """Put a `chat.completion`, or one chunk of a stream, right in place."""
    _coerce(answer, "id", _text)
    _coerce(answer, "model", _text)
    _coerce(answer, "system_fingerprint", _text)
    _coerce(answer, "service_tier", _text)
    if "created" in answer:
        answer["created"] = _time(answer["created"])
    answer["object"] = "chat.completion.chunk" if streamed else "chat.completion"
    choices = answer.get("choices")
    answer["choices"] = [one for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    for position, choice in enumerate(answer["choices"]):
        if streamed and "delta" not in choice and "message" in choice:
            # A whole answer in the place of a stream.
            choice["delta"] = choice.pop("message")
        _mend_choice(choice, position, "delta" if streamed else "message")


def _mend_choice(choice: dict[str, Any], position: int, part: str) -> None:
    if _whole(choice.get("index")) is None:
        choice["index"] = position
    _mend_reason(choice)
    if "logprobs" in choice and not _are_logprobs(choice["logprobs"]):
        del choice["logprobs"]
    if isinstance(choice.get(part), dict):
        _mend_message(choice[part])
    elif part in choice:
        choice[part] = {"content": choice[part]} if isinstance(choice[part], str) else {}
    fields = choice.get("provider_specific_fields")
    if fields is not None and not isinstance(fields, dict):
        del choice["provider_specific_fields"]


def _mend_reason(choice: dict[str, Any]) -> None:
    reason = choice.get("finish_reason")
    if reason is None:
        return
    if not isinstance(reason, str) or not reason:
        choice["finish_reason"] = None
        return
    if reason in OPENAI_REASONS:
        return
    meaning = openai_reason(reason)
    if meaning != reason:
        choice["finish_reason"] = meaning
        choice[NATIVE_REASON] = reason


def _mend_message(message: dict[str, Any]) -> None:
    if "role" in message and message["role"] != "assistant":
        message["role"] = "assistant"
    if isinstance(message.get("content"), list):
        _read_parts(message, message["content"])
    for name in _TEXTS:
        if name in message and not (message[name] is None or isinstance(message[name], str)):
            message[name] = _any_text(message[name])
    if "tool_calls" in message:
        calls = message["tool_calls"]
        calls = [calls] if isinstance(calls, dict) else calls if isinstance(calls, list) else []
        message["tool_calls"] = [_mended_call(one) for one in calls if isinstance(one, dict)] or None
    if "function_call" in message:
        call = message["function_call"]
        message["function_call"] = _mended_function(call) if isinstance(call, dict) else None
    _keep(message, "audio", lambda audio: isinstance(audio, dict))
    for name in ("annotations", "images", "thinking_blocks"):
        _keep(message, name, _is_list_of_objects)
    _keep(message, "provider_specific_fields", lambda fields: isinstance(fields, dict))


def _read_parts(message: dict[str, Any], parts: list[Any]) -> None:
    """Content as a list of parts: what is said, and what is thought."""
    said: list[str] = []
    thought: list[str] = []
    for part in parts:
        kind = part.get("type") if isinstance(part, dict) else None
        (thought if kind in _THOUGHTS else said).append(_any_text(part))
    message["content"] = "".join(said)
    if thought and not message.get("reasoning_content"):
        message["reasoning_content"] = "".join(thought)


def _any_text(value: Any) -> str:
    """The text in a part of a message, however it is wrapped; JSON where it is wrapped in no known way."""
    match value:
        case str():
            return value
        case None:
            return ""
        case list():
            return "".join(map(_any_text, value))
        case {"text": inner} | {"thinking": inner} | {"reasoning": inner} | {"value": inner}:
            return _any_text(inner)
        case {"refusal": str(inner)}:
            return inner
        case {"type": str()}:
            # A picture, a reference: no text.
            return ""
    return json.dumps(value)


def _mended_call(call: dict[str, Any]) -> dict[str, Any]:
    mended = dict(call)
    _coerce(mended, "id", _text)
    if "index" in mended and _whole(mended["index"]) is None:
        del mended["index"]
    if "type" in mended and not isinstance(mended["type"], str):
        mended["type"] = "function"
    if "function" in mended:
        function = mended["function"]
        mended["function"] = _mended_function(function) if isinstance(function, dict) else {}
    return mended


def _mended_function(function: dict[str, Any]) -> dict[str, Any]:
    mended = dict(function)
    _coerce(mended, "name", _text)
    if "arguments" in mended and not isinstance(mended["arguments"], str):
        given = mended["arguments"]
        mended["arguments"] = "" if given is None else json.dumps(given)
    return mended


def _are_logprobs(value: Any) -> bool:
    if value is None:
        return True
    if not isinstance(value, dict):
        return False
    lists = (value.get(name) for name in ("content", "refusal"))
    return all(one is None or (isinstance(one, list) and all(map(_is_logprob, one))) for one in lists)


def _is_logprob(entry: Any) -> bool:
    if not isinstance(entry, dict) or not isinstance(entry.get("token"), str):
        return False
    raw, top = entry.get("bytes"), entry.get("top_logprobs", [])
    return (
        _is_number(entry.get("logprob"))
        and (raw is None or (isinstance(raw, list) and all(_whole(one) is not None for one in raw)))
        and isinstance(top, list)
        and all(map(_is_logprob, top))
    )


def _coerce(holder: dict[str, Any], name: str, read: Callable[[Any], Any]) -> None:
    """Read one value of `holder` where it is no text; what cannot be read is left out."""
    if name in holder and not isinstance(holder[name], str | None):
        value = read(holder[name])
        if value is None:
            del holder[name]
        else:
            holder[name] = value


def _keep(holder: dict[str, Any], name: str, fits: Callable[[Any], bool]) -> None:
    if holder.get(name) is not None and not fits(holder[name]):
        del holder[name]


def _text(value: Any) -> str | None:
    return str(value) if _is_number(value) else None


def _time(value: Any) -> int:
    """Unix time in whole seconds; now, where it is none."""
    try:
        seconds = float(value) if isinstance(value, str | int | float) else math.nan
    except ValueError:
        seconds = math.nan
    return int(seconds) if 0 <= seconds < 2**53 else int(time.time())


def _whole(value: Any) -> int | None:
    return value if type(value) is int and 0 <= value < 2**31 else None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, dict) for one in value)
