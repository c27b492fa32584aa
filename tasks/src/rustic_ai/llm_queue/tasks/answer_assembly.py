from __future__ import annotations

import base64
import copy
from collections.abc import Mapping, Sequence
from typing import Any

#: Parts of a delta that are text, and grow.
TEXTS = ("content", "reasoning_content", "refusal")


class UnfinishedAnswer(ValueError):
    """A stream that ended before its answer was whole."""


class UnnamedTool(ValueError):
    """A stream that calls a tool without naming it."""


def says_something(chunk: Mapping[str, Any]) -> bool:
    """Whether an OpenAI chunk brings more than the speaker's role."""
    return any(
        value for choice in chunk["choices"] for name, value in choice["delta"].items() if name != "role"
    )


class AnswerAssembler:
    """Puts a stream's chunks together into the `chat.completion` they make, without loss."""

    def __init__(self) -> None:
        self._head: dict[str, Any] = {}
        self._choices: dict[int, _Choice] = {}
        self.usage: dict[str, Any] | None = None
        #: Bytes of text so far: content, reasoning, refusals and arguments.
        self.text_bytes = 0

    def add(self, chunk: Mapping[str, Any]) -> None:
        """Take in one `chat.completion.chunk`."""
        for name in ("id", "created", "model", "system_fingerprint", "service_tier", "citations"):
            if name in chunk and (name not in self._head or name == "service_tier"):
                self._head[name] = chunk[name]
        if usage := chunk.get("usage"):
            self.usage = merged_usage(self.usage, usage)
        for entry in chunk["choices"]:
            choice = self._choices.setdefault(entry["index"], _Choice(entry["index"]))
            self.text_bytes += choice.add(entry)

    def text(self, choice: int = 0) -> str:
        """The content of a choice so far."""
        held = self._choices.get(choice)
        return held.content() if held else ""

    def choices(self) -> list[dict[str, Any]]:
        """The choices as far as they have come. Raises `UnnamedTool`."""
        return [self._choices[index].plain() for index in sorted(self._choices)]

    def response(self) -> dict[str, Any]:
        """The answer.

        Raises `UnfinishedAnswer` unless the provider finished every choice it began, `UnnamedTool`.
        """
        if not self._choices:
            raise UnfinishedAnswer("the provider's stream ended without an answer")
        for choice in self._choices.values():
            if choice.finish_reason is None:
                raise UnfinishedAnswer("the provider's stream ended without a finish reason")
        response = {
            "id": "",
            "created": 0,
            **self._head,
            "object": "chat.completion",
            "choices": self.choices(),
        }
        if self.usage is not None:
            response["usage"] = self.usage
        return response


class _Choice:
    def __init__(self, index: int) -> None:
        self.index = index
        self.finish_reason: str | None = None
        self._texts: dict[str, list[str]] = {}
        self._tool_calls: dict[int, _ToolCall] = {}
        self._logprobs: dict[str, list[Any]] = {}
        self._extra: dict[str, Any] = {}
        self._fields: dict[str, Any] = {}

    def add(self, entry: Mapping[str, Any]) -> int:
        size = 0
        for name, value in entry["delta"].items():
            if name in TEXTS:
                self._texts.setdefault(name, []).append(value)
                size += _bytes(value)
            elif name == "tool_calls":
                size += sum(self._call(piece).add(piece) for piece in value)
            elif name == "function_call":
                self._extra[name] = joined_function(self._extra.get(name) or {}, value)
            elif name == "audio":
                self._extra[name] = joined_audio(self._extra.get(name) or {}, value)
            elif name == "thinking_blocks":
                self._extra[name] = joined_thinking(self._extra.get(name) or [], value)
            elif name != "role":
                self._extra[name] = merged(self._extra.get(name), value)
        for name, values in (entry.get("logprobs") or {}).items():
            if isinstance(values, list):
                self._logprobs.setdefault(name, []).extend(values)
        self.finish_reason = self.finish_reason or entry.get("finish_reason")
        if fields := entry.get("provider_specific_fields"):
            self._fields = merged(self._fields, fields)
        return size

    def _call(self, piece: Mapping[str, Any]) -> _ToolCall:
        index = piece.get("index")
        if index is None:
            # Without an index, a name begins the next call.
            begins = bool((piece.get("function") or {}).get("name"))
            index = len(self._tool_calls) if begins else max(len(self._tool_calls) - 1, 0)
        return self._tool_calls.setdefault(index, _ToolCall())

    def content(self) -> str:
        return "".join(self._texts.get("content", ()))

    def plain(self) -> dict[str, Any]:
        texts = {name: "".join(pieces) for name, pieces in self._texts.items()}
        message: dict[str, Any] = {"role": "assistant", "content": texts.pop("content", None), **texts}
        if self._tool_calls:
            message["tool_calls"] = [self._tool_calls[index].plain() for index in sorted(self._tool_calls)]
        message |= self._extra
        choice = {"index": self.index, "message": message, "finish_reason": self.finish_reason}
        if self._fields:
            choice["provider_specific_fields"] = self._fields
        if self._logprobs:
            choice["logprobs"] = self._logprobs
        return choice


class _ToolCall:
    def __init__(self) -> None:
        self._id: str | None = None
        self._type = "function"
        self._name: str | None = None
        self._arguments: list[str] = []
        self._extra: dict[str, Any] = {}

    def add(self, piece: Mapping[str, Any]) -> int:
        function = piece.get("function") or {}
        self._id = self._id or piece.get("id")
        self._type = piece.get("type") or self._type
        if name := function.get("name"):
            self._name = joined_name(self._name, name)
        arguments = function.get("arguments") or ""
        self._arguments.append(arguments)
        for part, value in piece.items():
            if part not in ("id", "type", "index", "function") and value is not None:
                self._extra[part] = merged(self._extra.get(part), value)
        return _bytes(arguments)

    def plain(self) -> dict[str, Any]:
        if self._name is None:
            raise UnnamedTool("the provider called a tool without naming it")
        # A call without arguments is one of a function that takes none; no text is no JSON.
        function = {"name": self._name, "arguments": "".join(self._arguments) or "{}"}
        return {"id": self._id or "", "type": self._type, "function": function, **self._extra}


def merged(old: Any, new: Any) -> Any:
    """A provider's own field after one more delta: lists grow, mappings merge, the rest is replaced."""
    if isinstance(old, list) and isinstance(new, list):
        return [*old, *new]
    if isinstance(old, Mapping) and isinstance(new, Mapping):
        return {**old, **{name: merged(old.get(name), value) for name, value in new.items()}}
    return copy.deepcopy(new)


def joined_name(old: str | None, new: str) -> str:
    """A function's name, which some providers send in pieces, and some repeat with every piece."""
    return new if not old else old if new == old else old + new


def joined_function(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """The older form of a call of a function."""
    joined = {**old, **new}
    if new.get("name"):
        joined["name"] = joined_name(old.get("name"), new["name"])
    joined["arguments"] = (old.get("arguments") or "") + (new.get("arguments") or "")
    return joined


def joined_audio(old: Mapping[str, Any], new: Mapping[str, Any]) -> dict[str, Any]:
    """Spoken words: their text and their sound come in pieces, the sound as base64."""
    joined = {**old, **new}
    if "transcript" in new:
        joined["transcript"] = (old.get("transcript") or "") + (new["transcript"] or "")
    if "data" in new:
        joined["data"] = _joined_base64(old.get("data") or "", new["data"] or "")
    return joined


def _joined_base64(old: str, new: str) -> str:
    if not old.endswith("="):
        return old + new
    try:
        return base64.b64encode(base64.b64decode(old) + base64.b64decode(new)).decode()
    except ValueError:
        return old + new


def joined_thinking(blocks: Sequence[Any], pieces: Sequence[Any]) -> list[Any]:
    """Anthropic's thinking blocks, whose text comes in pieces that a signature ends."""
    joined = list(blocks)
    for piece in pieces:
        last = joined[-1] if joined else {}
        if last.get("type") == piece.get("type") == "thinking" and not last.get("signature"):
            text = (last.get("thinking") or "") + (piece.get("thinking") or "")
            joined[-1] = {**last, **piece, "thinking": text}
        else:
            joined.append(dict(piece))
    return joined


def merged_usage(old: Mapping[str, Any] | None, new: Mapping[str, Any]) -> dict[str, Any]:
    """Usage reports are running totals, and some providers split them over several: the largest counts."""
    result = dict(old or {})
    for name, value in new.items():
        before = result.get(name)
        if isinstance(value, Mapping):
            result[name] = merged_usage(before if isinstance(before, Mapping) else None, value)
        elif isinstance(value, int | float) and isinstance(before, int | float):
            result[name] = max(before, value)
        elif value is not None:
            result[name] = value
    if {"prompt_tokens", "completion_tokens"} <= result.keys():
        both = (result["prompt_tokens"] or 0) + (result["completion_tokens"] or 0)
        result["total_tokens"] = max(result.get("total_tokens") or 0, both)
    return result


def _bytes(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())
