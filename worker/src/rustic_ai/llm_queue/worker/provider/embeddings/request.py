from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import litellm

from ..litellm_api import seam
from ..litellm_api.fast_embeddings import embeddings_fit, fast_embeddings
from ..targets.credentials import Target
from ..wire.large_answers import read_aside


async def post_embeddings(
    target: Target, texts: Sequence[str], params: Mapping[str, Any], *, timeout_s: float, fast_path: bool
) -> Mapping[str, Any]:
    """One provider call for these texts, and OpenAI's form of its answer. Raises what LiteLLM raises."""
    arguments: dict[str, Any] = {**params, **target.options, "input": list(texts), "timeout": timeout_s}
    if fast_path and embeddings_fit(target, arguments):
        return await fast_embeddings(arguments)

    def again() -> Any:
        with seam.internal_sub_call():
            return litellm.embedding(**arguments, num_retries=0, max_retries=0)

    response: Any = await read_aside(
        litellm.aembedding(**arguments, num_retries=0, max_retries=0),
        again,
        at_once=target.provider == "openai" and not target.routed,
    )
    body: dict[str, Any] = response.model_dump()
    return body
