"""What happened in a fault test: every call and how it ended, every provider request, every fault."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Literal

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from support.providers.provider import ProviderRequest

#: How a call ended for its caller. `timeout`: at its deadline. `refused`: it was told that the
#: queue cannot be reached, so the job may exist or not, and nobody waits for it.
Ending = Literal["answered", "failed", "cancelled", "timeout", "refused"]

#: What was done to a worker: killed; stopped and let go on (or cut off from Redis); told to
#: hand back what it runs; its jobs forgotten by a Redis that lost its data. Nothing else that
#: is done to Redis excuses a second provider request.
Hit = Literal["killed", "frozen", "handed back", "forgotten"]

ANSWERED: frozenset[Ending] = frozenset({"answered"})


@dataclass
class Call:
    """One call of an agent. Times are ``time.monotonic()`` in seconds."""

    tag: str
    timeout_s: float
    submitted_at: float
    max_retries: int = 2
    #: How it may end, with the faults that the test makes.
    may_end: frozenset[Ending] = ANSWERED
    #: What it is to be answered, where the provider's answer is given byte by byte and bears no request's id.
    raw_text: str | None = None

    job_id: str | None = None
    ended_at: float | None = None
    ending: Ending | None = None
    #: False when its caller was told that the queue had not taken it: it may exist or not.
    accepted: bool = True
    #: The exception's class, where one was raised.
    error: str | None = None
    #: The provider's id of the answer, and its text.
    response_id: str | None = None
    text: str | None = None
    attempts: tuple[AttemptRecord, ...] = ()
    possible_duplicate_charge: bool = False


@dataclass(frozen=True)
class WorkerFault:
    """A worker was hit, from one moment to another (the same for a kill)."""

    hit: Hit
    from_s: float
    until_s: float


@dataclass(frozen=True)
class JobEnd:
    """A job as the ledger and the stored result have it when all is over."""

    state: str
    #: The kind of the stored result, None where there is none.
    result: str | None
    epoch: int = 0
    handbacks: int = 0
    #: How often Redis lost it and its caller submitted it again.
    generation: int = 0


@dataclass
class History:
    """All of it."""

    calls: list[Call] = field(default_factory=list)
    requests: list[ProviderRequest] = field(default_factory=list)
    faults: list[WorkerFault] = field(default_factory=list)
    #: When Redis took no records: an answer that came then was on its way for longer.
    outages: list[tuple[float, float]] = field(default_factory=list)
    #: When Redis lost all it had: of what had ended before, nothing is on record any more.
    flushes: list[float] = field(default_factory=list)
    jobs: dict[str, JobEnd] = field(default_factory=dict)
    #: What is left of the work, in words.
    leftovers: list[str] = field(default_factory=list)

    def requests_of(self, tag: str) -> list[ProviderRequest]:
        """The provider's requests for one call, in the order of arrival."""
        return sorted((one for one in self.requests if one.tag == tag), key=lambda one: one.received_at)

    def recorded_by(self, answered_at: float, on_its_way_s: float) -> float:
        """The last moment at which an answer may still have been on its way to the ledger.

        Each outage that begins before then lengthens the way: until it has ended, and as long again.
        """
        latest = answered_at + on_its_way_s
        for from_s, until_s in sorted(self.outages):
            if from_s <= latest and until_s >= answered_at:
                latest = max(latest, until_s + on_its_way_s)
        return latest

    def hit(self, kinds: Iterable[Hit], from_s: float, until_s: float) -> bool:
        """Whether a worker was hit in one of these ways within a span of time."""
        wanted = set(kinds)
        return any(
            one.hit in wanted and one.from_s <= until_s and one.until_s >= from_s for one in self.faults
        )
