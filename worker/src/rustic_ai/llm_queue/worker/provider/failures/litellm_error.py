from __future__ import annotations

from ..litellm_api import seam


def named_error(error: Exception, *, model: str, provider: str | None) -> Exception:
    """`error` under the name LiteLLM has for it, such as an overloaded provider's event in mid-stream."""
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
