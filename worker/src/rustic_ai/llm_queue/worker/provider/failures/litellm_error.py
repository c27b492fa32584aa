from __future__ import annotations

from contextlib import suppress

from ..litellm_api import seam

#: LiteLLM searches an error's text with some dozens of patterns, 3 µs a character of the loop's time; of the
#: text half as much is told.
_LONGEST_TEXT = 4_000


def named_error(error: Exception, *, model: str, provider: str | None) -> Exception:
    """`error` under the name LiteLLM has for it, such as an overloaded provider's event in mid-stream."""
    _shorten(error)
    try:
        return seam.exception_type(
            model=model,
            custom_llm_provider=provider,
            original_exception=error,
            completion_kwargs={},
            extra_kwargs={},
        )
    except Exception as named:
        # It returns what has a name already, and raises the others.
        return named


def _shorten(error: Exception) -> None:
    text = getattr(error, "message", None)
    if isinstance(text, str) and len(text) > _LONGEST_TEXT:
        with suppress(AttributeError):
            error.message = text[:_LONGEST_TEXT]  # type: ignore[attr-defined]
    error.args = tuple(one[:_LONGEST_TEXT] if isinstance(one, str) else one for one in error.args)
