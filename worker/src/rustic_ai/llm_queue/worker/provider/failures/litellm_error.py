from __future__ import annotations

from collections.abc import Callable

from litellm.litellm_core_utils.exception_mapping_utils import exception_type


def named_error(error: Exception, *, model: str, provider: str | None) -> Exception:
    """`error` under the name LiteLLM has for it, such as an overloaded provider's event in mid-stream."""
    name: Callable[..., Exception] = exception_type
    try:
        return name(
            model=model,
            custom_llm_provider=provider,
            original_exception=error,
            completion_kwargs={},
            extra_kwargs={},
        )
    except Exception as named:
        # It returns what has a name already, and raises the others.
        return named
