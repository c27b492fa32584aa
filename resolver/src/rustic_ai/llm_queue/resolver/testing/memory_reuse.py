from __future__ import annotations

import time
from collections.abc import Callable

from rustic_ai.llm_queue.tasks.call import Call, EmbeddingCall
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed, Outcome
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer
from rustic_ai.llm_queue.tasks.reuse.cached_answer import CachedAnswer, keepable
from rustic_ai.llm_queue.tasks.reuse.names import reuse_name
from rustic_ai.llm_queue.tasks.reuse.options import shares_failure

from .memory_job import MemoryJob
from .memory_vectors import MemoryVectors
from .reply import Reply

_NO_SEAL = Sealer(KeyRing({}))


class MemoryReuse:
    """Flights and the cache of the queue in memory, as the workers have them.

    Args:
        reply_to: makes a job's call: takes the next step of the script for it.
    """

    def __init__(self, reply_to: Callable[[Call], Reply]) -> None:
        self._reply_to = reply_to
        self._vectors = MemoryVectors(reply_to, _NO_SEAL)
        self._kept: dict[str, tuple[float, CachedAnswer]] = {}
        self._followers: dict[str, list[tuple[Call, MemoryJob]]] = {}

    def run(self, call: Call, job: MemoryJob) -> None:
        """Answer the job by what is there, have it follow an equal one, or make its call."""
        options = call.reuse
        if options is None:
            job.play(self._reply_to(call))
            return
        if isinstance(call, EmbeddingCall):
            self._vectors.run(call, job)
            return
        name = reuse_name(call, job.job.owner, _NO_SEAL)
        until, kept = self._kept.get(name, (0.0, None))
        if options.reads and kept is not None and time.monotonic() < until:
            job.end(kept.answered(Account(), how="hit"))
        elif options.single_flight and name in self._followers:
            self._followers[name].append((call, job))
        else:
            self._lead(name, call, job, handovers=0)

    def clear(self) -> None:
        """Forget all answers, vectors and flights."""
        self._vectors.clear()
        self._kept.clear()
        self._followers.clear()

    def _lead(self, name: str, call: Call, job: MemoryJob, *, handovers: int) -> None:
        assert call.reuse is not None
        if call.reuse.single_flight:
            self._followers.setdefault(name, [])
        job.on_end = lambda outcome: self._ended(name, call, outcome, handovers)
        job.play(self._reply_to(call))

    def _ended(self, name: str, call: Call, outcome: Outcome, handovers: int) -> None:
        options, answer = call.reuse, CachedAnswer.of(outcome) if isinstance(outcome, Answered) else None
        assert options is not None
        if isinstance(outcome, Answered) and answer and options.writes and keepable(outcome, call.model):
            self._kept[name] = time.monotonic() + options.cache_ttl_s, answer
        waiting = [(one, job) for one, job in self._followers.pop(name, []) if job.outcome is None]
        if answer is not None:
            for _, job in waiting:
                job.end(answer.answered(Account(), how="flight"))
        elif isinstance(outcome, Failed) and shares_failure(
            outcome.error.kind, called=bool(outcome.account.attempts), handovers=handovers
        ):
            for _, job in waiting:
                job.end(Failed(account=Account(), error=outcome.error))
        elif waiting:
            (next_call, next_job), *rest = waiting
            self._followers[name] = rest
            self._lead(name, next_call, next_job, handovers=handovers + 1)
