"""OpenAI's answers as text, with what a test puts wrong in them."""

import json
from typing import Any

USAGE = {"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5}


def whole(content: Any = "42", *, message: Any = None, choice: Any = None, **fields: Any) -> str:
    """A `chat.completion`. `message`, `choice` and `fields` go into its parts; None leaves a part out."""
    made = {"role": "assistant", "content": content, **(message or {})}
    one = {"index": 0, "message": made, "finish_reason": "stop", **(choice or {})}
    return _json({
        "id": "chatcmpl-1", "object": "chat.completion", "created": 1_800_000_000, "model": "gpt-4o",
        "choices": [one], "usage": USAGE, **fields,
    })  # fmt: skip


def chunk(delta: Any = None, reason: Any = None, *, choice: Any = None, **fields: Any) -> str:
    """One `chat.completion.chunk`."""
    one = {"index": 0, "delta": delta or {}, "finish_reason": reason, **(choice or {})}
    return _json({
        "id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_800_000_000, "model": "gpt-4o",
        "choices": [one], **fields,
    })  # fmt: skip


def stream(*events: str, done: bool = True) -> str:
    """Server-sent events."""
    return "".join(f"data: {event}\n\n" for event in (*events, *(["[DONE]"] if done else [])))


def told(content: str = "42", **fields: Any) -> str:
    """A whole stream of one text, with `fields` in each of its chunks."""
    return stream(
        chunk({"role": "assistant", "content": content}, **fields),
        chunk({}, "stop", **{**fields, "usage": fields.get("usage", USAGE)}),
    )


def _json(value: Any) -> str:
    # NaN and infinities as JSON does not know them, and half characters as escapes.
    return json.dumps(value)
