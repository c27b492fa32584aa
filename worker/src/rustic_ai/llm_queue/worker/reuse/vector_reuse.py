from __future__ import annotations

import base64
import re
import time
from collections.abc import Sequence
from datetime import timedelta
from functools import partial

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.outcome import Answered, Failed, Outcome
from rustic_ai.llm_queue.tasks.policy.embedding_limits import token_estimate
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_vector import CachedVector
from rustic_ai.llm_queue.tasks.reuse.kept_vectors import KeptVectors
from rustic_ai.llm_queue.tasks.reuse.names import text_names
from rustic_ai.llm_queue.tasks.usage import PICO, Usage
from rustic_ai.llm_queue.tasks.vectors import float32_bytes, packed_vectors

from ..jobs.execution import Execution
from ..jobs.reuse_port import VectorTicket
from ..pool.inline_executor import in_thread_if
from ..provider.embeddings.shares import split_exactly
from .counters import ReuseCounters
from .vector_cache import VectorCache

#: Texts of a call whose vectors are put together in a thread.
_MANY = 128
_PLACE = re.compile(r"input\[(\d{1,9})\]")


class VectorReuse:
    """Answers the texts of embedding calls by vectors that were kept, and has only the others asked for."""

    def __init__(self, cache: VectorCache, sealer: Sealer, counters: ReuseCounters) -> None:
        self._cache, self._sealer, self._counters = cache, sealer, counters

    async def find(self, execution: Execution, call: EmbeddingCall) -> Outcome | None:
        """The outcome of a job whose vectors are all there. Else its call is left with the missing texts."""
        assert call.reuse is not None
        names = text_names(call, execution.owner, self._sealer)
        ticket = execution.reused = VectorTicket(names, call, KeptVectors(len(names), {}))
        if not call.reuse.reads:
            return None
        ticket.generation, found = await self._cache.get(names, call.reuse.cache_scope, execution.owner)
        gather = partial(KeptVectors.of, names, found, call.params.get("dimensions"))
        kept = ticket.kept = await in_thread_if(len(names) > _MANY, gather)
        self._counters.hits += len(kept.by_place)
        self._counters.misses += len(kept.missing)
        if not kept.missing:
            return await in_thread_if(len(names) > _MANY, partial(kept.hit, execution.account(), call.model))
        execution.call = call.model_copy(update={"texts": tuple(kept.sent(call.texts))})
        return None

    async def keep(self, execution: Execution, ticket: VectorTicket, outcome: Outcome) -> Outcome:
        """Keep the vectors that the call brought; the outcome with those that were there before."""
        if isinstance(outcome, Failed):
            await self._keep_before(execution, ticket)
            return _renumbered(outcome, ticket)
        if not isinstance(outcome, Answered) or outcome.account.cached:
            return outcome
        try:
            vectors, whole = await in_thread_if(len(ticket.names) > _MANY, partial(_joined, ticket, outcome))
        except (ContractViolation, ValueError) as error:
            # Another model behind the same name, since they were kept.
            await self._cache.forget([ticket.names[at] for at in ticket.kept.by_place])
            return Failed(account=outcome.account, error=_unlike(str(error), outcome.model))
        if {attempt.model for attempt in outcome.account.attempts} <= {ticket.call.model}:
            model = str(outcome.response.get("model") or outcome.model)
            await self._put(execution, ticket, vectors, model, outcome.account)
        return whole

    async def _keep_before(self, execution: Execution, ticket: VectorTicket) -> None:
        """Of a job that failed by one text, the vectors of those before it."""
        refused = execution.attempts.refused
        if refused is None or refused.found is None:
            return
        found = refused.found.vectors
        vectors = [float32_bytes(vector) for vector in found.vectors]
        await self._put(execution, ticket, vectors, found.model or ticket.call.model, refused.usage)

    async def _put(
        self, execution: Execution, ticket: VectorTicket, vectors: Sequence[bytes], model: str, usage: Usage
    ) -> None:
        """`vectors` are those of the first of the missing texts."""
        reuse = ticket.call.reuse
        assert reuse is not None
        if not reuse.writes:
            return
        places = ticket.kept.missing[: len(vectors)]
        weights = [token_estimate(ticket.call.texts[at]) for at in places]
        tokens: Sequence[int | None] = [None] * len(places)
        costs: Sequence[float | None] = [None] * len(places)
        if usage.prompt_tokens is not None:
            tokens = split_exactly(usage.prompt_tokens, weights)
        if usage.cost_usd is not None:
            costs = [pico / 10**PICO for pico in split_exactly(round(usage.cost_usd * 10**PICO), weights)]
        made_ms = time.time_ns() // 1_000_000

        def made() -> dict[str, CachedVector]:
            return {
                ticket.names[at]: CachedVector(
                    made_ms=made_ms,
                    model=model,
                    vector=base64.b64encode(vector).decode(),
                    prompt_tokens=own_tokens,
                    cost_usd=own_cost,
                )
                for at, vector, own_tokens, own_cost in zip(places, vectors, tokens, costs, strict=True)
            }

        kept = await in_thread_if(len(places) > _MANY, made)
        ttl = timedelta(seconds=reuse.cache_ttl_s)
        await self._cache.put(kept, ticket.generation, reuse.cache_scope, execution.owner, ttl)


def _joined(ticket: VectorTicket, answered: Answered) -> tuple[list[bytes], Answered]:
    """The vectors that the call brought, and the outcome with those that were there. Raises for odd ones."""
    vectors = packed_vectors(answered.response, count=len(ticket.kept.missing))
    return vectors, ticket.kept.joined(answered, vectors)


def _renumbered(failed: Failed, ticket: VectorTicket) -> Failed:
    """A failure that names a text by its place among those that were sent, by its place in the call."""
    named = _PLACE.match(failed.error.message)
    missing = ticket.kept.missing
    if named is None or int(named[1]) >= len(missing):
        return failed
    place = f"input[{missing[int(named[1])]}]"
    message = (place + failed.error.message[named.end() :])[:4_000]
    return failed.model_copy(
        update={"error": failed.error.model_copy(update={"message": message, "param": place})}
    )


def _unlike(why: str, model: str) -> ErrorEnvelope:
    return ErrorEnvelope(
        kind=ErrorKind.RESPONSE_PROCESSING,
        message=f"The provider's vectors do not go with those of earlier calls, now forgotten: {why}",
        model=model,
    )
