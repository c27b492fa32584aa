"""OpenAI's embeddings: a vector for each text, derived from it and so known to a test."""

import base64
import hashlib
import math
from array import array
from typing import Any

from support.providers.provider_answer import Answer
from support.providers.provider_plan import VectorFault
from support.providers.wire.base import Target
from support.providers.wire.openai import OpenAIWire

#: The length of a vector for which none was asked.
DIMENSIONS = 8


def derived_vector(text: str, dimensions: int = DIMENSIONS) -> list[float]:
    """The vector the simulator answers a text with: each text its own, exact as float32."""
    seed = array("h", hashlib.sha256(text.encode()).digest())
    return [seed[at % len(seed)] / 32768 for at in range(dimensions)]


class EmbeddingsWire(OpenAIWire):
    """``POST /v1/embeddings``."""

    def target(self, path: str, body: dict[str, Any]) -> Target | None:
        return Target(str(body.get("model", "")), stream=False) if path == "/v1/embeddings" else None

    def prompt(self, body: dict[str, Any]) -> str:
        return "\n".join(_texts(body))

    def reply(self, answer: Answer, body: dict[str, Any], vectors: VectorFault | None) -> dict[str, Any]:
        texts, dimensions = _texts(body), int(body.get("dimensions") or DIMENSIONS)
        found = [derived_vector(text, dimensions) for text in texts]
        if vectors == "not_finite":
            found[-1] = [math.nan] * dimensions
        elif vectors == "other_length":
            found = [[*vector, 0.0] for vector in found]
        elif vectors == "uneven":
            found[-1] += [0.0]
        data = [self._item(body, at, vector) for at, vector in enumerate(found)]
        if vectors == "shuffled":
            data.reverse()
        elif vectors == "one_short":
            data.pop()
        elif vectors == "one_twice":
            data[-1] = data[0]
        return {"object": "list", "data": data, "model": answer.model, "usage": self._counts(answer, texts)}

    def _item(self, body: dict[str, Any], index: int, vector: list[float]) -> dict[str, Any]:
        base64_wanted = body.get("encoding_format") == "base64"
        shown = base64.b64encode(array("f", vector).tobytes()).decode() if base64_wanted else vector
        return {"object": "embedding", "index": index, "embedding": shown}

    def _counts(self, answer: Answer, texts: list[str]) -> dict[str, Any]:
        tokens = max(1, sum(len(text) // 4 + 1 for text in texts)) if texts else answer.prompt_tokens
        return {"prompt_tokens": tokens, "total_tokens": tokens}


def _texts(body: dict[str, Any]) -> list[str]:
    given = body.get("input")
    return [given] if isinstance(given, str) else [str(one) for one in given or ()]
