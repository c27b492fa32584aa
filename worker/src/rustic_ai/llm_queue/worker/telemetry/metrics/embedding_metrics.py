from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram

_TEXTS_BUCKETS = (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048)


class EmbeddingMetrics:
    """Counts the provider calls for embeddings, which several jobs may share."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._texts = Counter(
            "llm_queue_embedding_texts", "Texts sent to be embedded, in all calls.", registry=registry
        )
        self._batch_size = Histogram(
            "llm_queue_embedding_batch_size",
            "Texts of a provider call for embeddings.",
            buckets=_TEXTS_BUCKETS,
            registry=registry,
        )
        self._coalesced = Counter(
            "llm_queue_embedding_coalesced",
            "Jobs whose texts went out in another job's call.",
            registry=registry,
        )

    def call_made(self, texts: int, jobs: int) -> None:
        """A call with these many texts goes out for these many jobs."""
        self._texts.inc(texts)
        self._batch_size.observe(texts)
        self._coalesced.inc(jobs - 1)
