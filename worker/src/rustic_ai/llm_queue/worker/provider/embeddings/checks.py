"""What a job for embeddings is refused for, before any provider is called."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import litellm

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from ..failures.classify import PolicyViolation
from ..litellm_api import seam

_OPENAI = "openai"


def check_fallbacks(call: EmbeddingCall, equivalent: Sequence[str]) -> None:
    """Raise `PolicyViolation` for a fallback that the operator does not list with the job's model.

    The vectors of two models do not compare: an index that holds both finds the wrong texts, and says
    nothing. So a fallback is refused unless the operator knows better.

    Args:
        equivalent: names of models that stand for the same one, as `one=another`.
    """
    groups = [{name.strip() for name in entry.split("=")} for entry in equivalent]
    for model in call.fallback_models:
        if model != call.model and not any({model, call.model} <= group for group in groups):
            raise PolicyViolation(
                ErrorKind.MODEL_NOT_ALLOWED,
                f"fallback_models: the vectors of {model[:100]!r} do not compare with those of "
                f"{call.model[:100]!r}; leave it out, or list the two as equivalent in "
                "LLM_QUEUE_EQUIVALENT_EMBEDDINGS",
            )


def check_dimensions(dimensions: object, model: str, provider: str | None) -> None:
    """Raise `PolicyViolation` for a length of vectors that the model is known not to have.

    Args:
        model: LiteLLM's name for it, with or without the provider.
    """
    info = _known(model, provider)
    if not isinstance(dimensions, int) or info is None:
        return
    most = info.get("output_vector_size")
    if most is not None and dimensions > most:
        raise _bad(f"dimensions: {dimensions} is above the {most} of {model[:100]!r}")
    name = model.removeprefix(f"{provider}/")
    try:
        mapped = seam.get_optional_params_embeddings(
            model=name, custom_llm_provider=provider, dimensions=dimensions
        )
    except litellm.UnsupportedParamsError:
        mapped = {}
    # LiteLLM drops what a model does not take, and the vectors would be of another length.
    if dimensions not in mapped.values():
        raise _bad(f"dimensions: {model[:100]!r} lets nobody choose the length of its vectors; leave it out")


def most_tokens(model: str, provider: str | None) -> int | None:
    """The tokens of the longest text that a model of OpenAI's takes; None where a count would be a guess."""
    info = _known(model, provider) if provider == _OPENAI else None
    return info.get("max_input_tokens") if info else None


def _known(model: str, provider: str | None) -> Mapping[str, Any] | None:
    try:
        info: Mapping[str, Any] = litellm.get_model_info(model, custom_llm_provider=provider)
    except Exception:
        # LiteLLM raises a plain Exception for a model that is not in its map.
        return None
    return info if info.get("mode") == "embedding" else None


def _bad(message: str) -> PolicyViolation:
    return PolicyViolation(ErrorKind.BAD_REQUEST, message)
