from __future__ import annotations

import base64
import time
from collections.abc import Callable

from rustic_ai.llm_queue.tasks.call import Call, EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Account, Answered
from rustic_ai.llm_queue.tasks.policy.embedding_limits import token_estimate
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_vector import CachedVector
from rustic_ai.llm_queue.tasks.reuse.kept_vectors import KeptVectors
from rustic_ai.llm_queue.tasks.reuse.names import text_names
from rustic_ai.llm_queue.tasks.vectors import packed_vectors

from .memory_job import MemoryJob
from .reply import Reply, failed


class MemoryVectors:
    """The vectors kept by the queue in memory, as the workers keep them.

    Args:
        reply_to: answers a call for the texts whose vectors are not there.
    """

    def __init__(self, reply_to: Callable[[Call], Reply], sealer: Sealer) -> None:
        self._reply_to, self._sealer = reply_to, sealer
        self._kept: dict[str, tuple[float, CachedVector]] = {}

    def run(self, call: EmbeddingCall, job: MemoryJob) -> None:
        """Answer the job by what is there and by a call for the rest."""
        options = call.reuse
        assert options is not None
        names = text_names(call, job.job.owner, self._sealer)
        kept = KeptVectors.of(
            names, self._found(names) if options.reads else {}, call.params.get("dimensions")
        )
        if not kept.missing:
            job.end(kept.hit(Account(), call.model))
            return
        reply = self._reply_to(call.model_copy(update={"texts": tuple(kept.sent(call.texts))}))
        if not isinstance(reply.outcome, Answered):
            job.play(reply)
            return
        vectors = packed_vectors(reply.outcome.response, count=len(kept.missing))
        try:
            whole = kept.joined(reply.outcome, vectors)
        except ValueError as error:
            job.end(failed(call, ErrorKind.RESPONSE_PROCESSING, str(error)))
            return
        if options.writes:
            until = time.monotonic() + options.cache_ttl_s
            for at, vector in zip(kept.missing, vectors, strict=True):
                self._kept[names[at]] = until, _cached(call, at, vector)
        job.end(whole)

    def clear(self) -> None:
        """Forget all of them."""
        self._kept.clear()

    def _found(self, names: list[str]) -> dict[str, CachedVector]:
        now = time.monotonic()
        there = {name: self._kept[name] for name in names if name in self._kept}
        return {name: vector for name, (until, vector) in there.items() if now < until}


def _cached(call: EmbeddingCall, at: int, vector: bytes) -> CachedVector:
    return CachedVector(
        made_ms=time.time_ns() // 1_000_000,
        model=call.model,
        vector=base64.b64encode(vector).decode(),
        prompt_tokens=token_estimate(call.texts[at]),
    )
