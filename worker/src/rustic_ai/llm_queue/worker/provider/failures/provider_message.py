from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Self

#: What LiteLLM puts behind the words: a traceback, or all of an answer that it could not read.
_RESTS = ("Traceback (most recent call last):", "Original Response:", "Original Response received:")
#: What LiteLLM puts before a provider's own words, such as `litellm.RateLimitError: OpenAIException - `.
_PREFIXES = re.compile(r"^(?:(?:litellm\.)?\w+(?:Error|Exception|Timeout)(?: \w+Error)?(?:: | - ))+")
_LONGEST_BODY = 64_000


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
        # No pattern and no parser sees more than a provider's own words could be.
        raw = str(getattr(error, "message", None) or error)[:_LONGEST_BODY]
        text = _PREFIXES.sub("", _without_rest(raw).strip())
        details = next((found for body in bodies if (found := _details(body))), None)
        details = details or _details(_parsed(text)) or {}
        message = details.get("message")
        return cls(
            message=message if isinstance(message, str) and message else text or type(error).__name__,
            code=_word(details, "code", "status", "type") or _word(vars(error), "code"),
            param=_word(details, "param") or _word(vars(error), "param"),
            raw=raw,
        )


def _without_rest(text: str) -> str:
    ends = [at for rest in _RESTS if (at := text.find(rest)) >= 0]
    return text[: min(ends)].rstrip().removesuffix(",") if ends else text


def _parsed(text: str) -> Any:
    """The JSON that `text` is, also where it was written as the `repr` of bytes."""
    try:
        if text.startswith(("b'", 'b"')):
            text = ast.literal_eval(text).decode()
        return json.loads(text) if text.startswith("{") else None
    except (ValueError, SyntaxError, RecursionError, MemoryError):
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
