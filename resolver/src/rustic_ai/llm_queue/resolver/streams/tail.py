from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.answer_assembly import TEXTS, AnswerAssembler, UnnamedTool


def missing_chunk(shown: AnswerAssembler, response: Mapping[str, Any]) -> dict[str, Any] | None:
    """The chunk that completes what was shown to `response`; without choices when all of it was shown.

    None when what was shown is not the beginning of it.
    """
    try:
        choices = {choice["index"]: choice for choice in shown.choices()}
    except UnnamedTool:
        return None
    entries = []
    for at, whole in enumerate(response["choices"]):
        index = whole.get("index", at)
        entry = _rest(choices.pop(index, None), whole, index)
        if entry is None:
            return None
        if entry["delta"] or entry["finish_reason"] or "logprobs" in entry:
            entries.append(entry)
    if choices:
        return None
    head = {name: response[name] for name in ("id", "created", "model") if name in response}
    chunk: dict[str, Any] = {**head, "object": "chat.completion.chunk", "choices": entries}
    if response.get("usage") != shown.usage:
        chunk["usage"] = response.get("usage")
    return chunk


def _rest(shown: Mapping[str, Any] | None, whole: Mapping[str, Any], index: int) -> dict[str, Any] | None:
    """What `whole` has beyond what was shown of the choice; None when they do not agree."""
    had: Mapping[str, Any] = shown["message"] if shown else {}
    delta: dict[str, Any] = {} if shown else {"role": "assistant"}
    message = whole["message"]
    for name in {*had, *message} - {"role"}:
        before, after = had.get(name), message.get(name)
        if before == after:
            continue
        if name in TEXTS and (after or "").startswith(before or ""):
            delta[name] = (after or "")[len(before or "") :]
        elif before is None:
            delta[name] = _indexed(after) if name == "tool_calls" else after
        else:
            return None
    entry: dict[str, Any] = {"index": index, "delta": delta, "finish_reason": None}
    reason = shown.get("finish_reason") if shown else None
    if reason != whole.get("finish_reason"):
        if reason is not None:
            return None
        entry["finish_reason"] = whole.get("finish_reason")
    if (logprobs := shown.get("logprobs") if shown else None) != whole.get("logprobs"):
        if logprobs is not None:
            return None
        entry["logprobs"] = whole["logprobs"]
    return entry


def _indexed(calls: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"index": index, **call} for index, call in enumerate(calls)]
