"""Lines of a batch file that ask for embeddings: their call, and their answer in OpenAI's form."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.vectors import float32_bytes

from ..call.texts import checked_texts
from ..call.vector_reader import EmbeddingAnswer
from ..exceptions import InvalidRequest

#: Of a request's body, what is no parameter of the call: how vectors travel is the queue's own affair.
_NOT_PARAMS = ("encoding_format", "input")
_FORMATS = ("base64", "float")


def embedding_call(model: str, params: Mapping[str, Any]) -> EmbeddingCall:
    """Raises `InvalidRequest` naming the field."""
    given = params.get("input")
    texts = checked_texts([given] if isinstance(given, str) else given, field="input")
    if not texts:
        raise InvalidRequest("input: give a text, or a list of at least one")
    if params.get("encoding_format", "float") not in _FORMATS:
        raise InvalidRequest(
            f"encoding_format: {str(params['encoding_format'])[:64]!r} is not float or base64"
        )
    own = {name: value for name, value in params.items() if name not in _NOT_PARAMS}
    return EmbeddingCall(model=model, texts=tuple(texts), params=own)


def embedding_body(request: Mapping[str, Any], answer: EmbeddingAnswer) -> dict[str, Any]:
    """The answer as OpenAI's API gives it."""
    packed = request.get("encoding_format") == "base64"
    tokens = answer.account.prompt_tokens or 0
    return {
        "object": "list",
        "data": [
            {
                "object": "embedding",
                "index": index,
                "embedding": base64.b64encode(float32_bytes(vector)).decode() if packed else vector,
            }
            for index, vector in enumerate(answer.vectors)
        ],
        "model": answer.model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    }


def embedding_facts(answer: EmbeddingAnswer) -> dict[str, Any]:
    """What the queue knows beyond OpenAI's answer."""
    account = answer.account
    return {
        "job_id": answer.job_id,
        "cost_usd": account.cost_usd,
        "queue_wait_s": account.queue_wait_s,
        "run_time_s": account.run_time_s,
        "possible_duplicate_charge": account.possible_duplicate_charge,
        "attempts": len(account.attempts),
    }
