from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

_HEAD = re.compile(r"\s*data:[^,\s]{0,200};base64,", re.IGNORECASE)


def without_line_breaks(params: dict[str, Any]) -> dict[str, Any]:
    """`params` whose messages hold their data URLs on one line each.

    Base64 is often wrapped (`base64.encodebytes`, the shell's `base64`), which a URL may not be: what
    a provider makes of it differs from one to the next.
    """
    messages = params.get("messages")
    if not isinstance(messages, list):
        return params
    return {**params, "messages": [_message(one) for one in messages]}


def _message(message: Any) -> Any:
    if not isinstance(message, Mapping) or not isinstance(content := message.get("content"), list):
        return message
    return {**message, "content": [_part(part) for part in content]}


def _part(value: Any) -> Any:
    if isinstance(value, str):
        return _one_line(value)
    if isinstance(value, Mapping):
        return {name: item if name == "text" else _part(item) for name, item in value.items()}
    return value


def _one_line(text: str) -> str:
    head = _HEAD.match(text)
    return text if head is None else head[0].strip() + "".join(text[head.end() :].split())
