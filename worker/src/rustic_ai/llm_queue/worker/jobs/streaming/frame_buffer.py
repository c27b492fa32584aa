from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.answer_assembly import TEXTS

#: What a chunk weighs beside its text.
_CHUNK_BYTES = 48
_PLAIN_CHUNK = frozenset({"id", "object", "created", "model", "system_fingerprint", "choices"})
_PLAIN_CHOICE = frozenset({"index", "delta", "finish_reason"})
_PLAIN_CALL = frozenset({"index", "type", "function"})


class FrameBuffer:
    """Chunks that wait for the next frame; those that only bring more of one text become one."""

    def __init__(self) -> None:
        self._chunks: list[dict[str, Any]] = []
        #: Roughly what a frame of them would weigh.
        self.bytes = 0
        #: Whether they hold anything a reader waits for; the role alone does not count.
        self.speaks = False

    def __bool__(self) -> bool:
        return bool(self._chunks)

    def add(self, chunk: dict[str, Any]) -> None:
        """Take in one `chat.completion.chunk`, which is not changed."""
        place = _grows(chunk)
        if place is not None and self._chunks and _grows(self._chunks[-1]) == place:
            self._chunks[-1] = _joined(self._chunks[-1], chunk, place)
        else:
            self._chunks.append(chunk)
            self.bytes += _CHUNK_BYTES
        self.bytes += sum(_weight(choice["delta"]) for choice in chunk["choices"])
        self.speaks = self.speaks or any(_speaks(choice) for choice in chunk["choices"])

    def take(self) -> list[dict[str, Any]]:
        """All of them; the buffer is empty then."""
        chunks, self._chunks, self.bytes, self.speaks = self._chunks, [], 0, False
        return chunks


#: The choice, the part of its delta, and the tool call's index where it is one's arguments.
_Place = tuple[int, str, int | None]


def _grows(chunk: Mapping[str, Any]) -> _Place | None:
    """The one text that `chunk` adds to; None when it says anything else."""
    choices = chunk["choices"]
    if len(choices) != 1 or not chunk.keys() <= _PLAIN_CHUNK:
        return None
    choice = choices[0]
    delta = choice["delta"]
    if len(delta) != 1 or choice["finish_reason"] is not None or not choice.keys() <= _PLAIN_CHOICE:
        return None
    ((part, value),) = delta.items()
    if part in TEXTS:
        return choice["index"], part, None
    if part != "tool_calls" or len(value) != 1 or not value[0].keys() <= _PLAIN_CALL:
        return None
    call = value[0]
    if call.get("index") is None or (call.get("function") or {}).keys() != {"arguments"}:
        return None
    return choice["index"], part, call["index"]


def _joined(before: dict[str, Any], chunk: Mapping[str, Any], place: _Place) -> dict[str, Any]:
    index, part, call_index = place
    first, second = before["choices"][0]["delta"][part], chunk["choices"][0]["delta"][part]
    if call_index is None:
        value: Any = first + second
    else:
        arguments = first[0]["function"]["arguments"] + second[0]["function"]["arguments"]
        value = [{**first[0], "function": {"arguments": arguments}}]
    return {**before, "choices": [{"index": index, "delta": {part: value}, "finish_reason": None}]}


def _speaks(choice: Mapping[str, Any]) -> bool:
    return choice["finish_reason"] is not None or bool(choice["delta"].keys() - {"role"})


def _weight(delta: Mapping[str, Any]) -> int:
    texts = sum(len(delta[part]) for part in TEXTS if part in delta)
    calls = delta.get("tool_calls") or ()
    return texts + sum(len((call.get("function") or {}).get("arguments") or "") for call in calls)
