from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

#: What LiteLLM puts behind the words: a traceback, or all of an answer that it could not read.
_REST = re.compile(
    r"\n?Traceback \(most recent call last\).*|,?\s*Original Response(?: received)?:.*", re.DOTALL
)
#: What LiteLLM puts before a provider's own words, such as `litellm.RateLimitError: OpenAIException - `.
_PREFIXES = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception|Timeout)(?: \w+Error)?(?:: | - ))+")
_LONGEST_BODY = 100_000


@dataclass(frozen=True)
class ProviderWords:
    """What a provider said about a failure, out of LiteLLM's wrapping."""

    message: str
    #: Its own machine-readable code, such as `insufficient_quota`.
    code: str | None
    param: str | None
    #: All of the text, where headers are repeated by some.
    raw: str

    @classmethod
    def of(cls, error: Exception, bodies: Iterable[object] = ()) -> Self:
        """Read the words out of an exception's text, or of the first of `bodies` that is an error object."""
        raw = str(getattr(error, "message", None) or error)
        text = _PREFIXES.sub("", _REST.sub("", raw).strip())
        details = next((found for body in bodies if (found := _details(body))), None)
        details = details or _details(_parsed(text)) or {}
        message = details.get("message")
        return cls(
            message=message if isinstance(message, str) and message else text or type(error).__name__,
            code=_word(details, "code", "status", "type") or _word(vars(error), "code"),
            param=_word(details, "param") or _word(vars(error), "param"),
            raw=raw,
        )


def _parsed(text: str) -> Any:
    """The JSON that `text` is, also where it was written as the `repr` of bytes."""
    if len(text) > _LONGEST_BODY:
        return None
    try:
        if text.startswith(("b'", 'b"')):
            text = ast.literal_eval(text).decode()
        return json.loads(text) if text.startswith("{") else None
    except (ValueError, SyntaxError):
        return None


def _details(body: Any) -> Mapping[str, Any] | None:
    """The error object in one of the forms in which providers wrap it."""
    match body:
        case {"error": dict() as details} | {"detail": dict() as details}:
            return details
        case {"error": str(message)} | {"detail": str(message)} | {"message": {"detail": str(message)}}:
            return {"message": message}
        case {"message": str()}:
            return dict(body)
        case _:
            return None


def _word(details: Mapping[str, Any], *names: str) -> str | None:
    """The first of the named values that is a word. Numbers only repeat the status."""
    values = (details.get(name) for name in names)
    return next((value for value in values if isinstance(value, str) and value and not value.isdigit()), None)
