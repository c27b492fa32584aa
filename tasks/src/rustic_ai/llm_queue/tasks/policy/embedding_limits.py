"""How much a provider takes in one call for embeddings. Both sides go by it: one splits, one joins."""

from __future__ import annotations

from dataclasses import dataclass

#: A token is rarely shorter than this in UTF-8.
_BYTES_PER_TOKEN = 3


@dataclass(frozen=True)
class EmbeddingLimits:
    """The most of one call."""

    texts: int
    #: Of all texts together.
    tokens: int


_UNBOUNDED_TOKENS = 250_000
#: Servers that speak OpenAI's API take as few as 32 (text-embeddings-inference), and do not say so.
_UNKNOWN = EmbeddingLimits(texts=32, tokens=_UNBOUNDED_TOKENS)
#: By LiteLLM's name of the provider. OpenAI's own limit is 300,000 tokens: ours are estimated.
_BY_PROVIDER = {
    "azure": EmbeddingLimits(texts=2_048, tokens=250_000),
    "bedrock": EmbeddingLimits(texts=96, tokens=_UNBOUNDED_TOKENS),
    "cohere": EmbeddingLimits(texts=96, tokens=_UNBOUNDED_TOKENS),
    "gemini": EmbeddingLimits(texts=100, tokens=20_000),
    "jina_ai": EmbeddingLimits(texts=512, tokens=_UNBOUNDED_TOKENS),
    "mistral": EmbeddingLimits(texts=256, tokens=16_000),
    "vertex_ai": EmbeddingLimits(texts=250, tokens=20_000),
    "voyage": EmbeddingLimits(texts=128, tokens=120_000),
}
#: Names that need no provider before them.
_BY_NAME = {
    "text-embedding-3-": "azure",
    "text-embedding-ada-": "azure",
    "embed-english-": "cohere",
    "embed-multilingual-": "cohere",
    "embed-v4": "cohere",
}


def limits_of(model: str) -> EmbeddingLimits:
    """The limits of a model by its LiteLLM name; careful ones for a model nobody here knows."""
    provider, _, name = model.rpartition("/")
    for start, known in _BY_NAME.items():
        if name.startswith(start):
            return _BY_PROVIDER[known]
    return _BY_PROVIDER.get(provider.partition("/")[0], _UNKNOWN)


def token_estimate(text: str) -> int:
    """A count of a text's tokens that errs on the high side, and takes no tokenizer."""
    return len(text.encode("utf-8", "surrogatepass")) // _BYTES_PER_TOKEN + 1
