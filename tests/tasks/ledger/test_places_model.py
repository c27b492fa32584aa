"""Random lives of many jobs with turns, limits and flights, against the real functions.

After every step each job that has not ended is in exactly one place: among the arrivals, in its guild's
backlog, in the window, at a limit, in a pause, behind an equal call, or with a worker. In the end all jobs
have ended, each once, and nothing is left of their turns.
"""

import asyncio
import json
from collections import Counter
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from support.servers.valkey import ValkeyServer
from support.workers.random_lives import run_random_lives
from support.workers.turns_kit import Hands

pytestmark = pytest.mark.leaves_keys("llm*", "llmq:*")

META = json.dumps({"status": "SUCCESS"})
LIMIT = LimitAsk("model:x", most_running=3)
FLIGHTS = ("flight-a", "flight-b")
SEEDS = st.integers(0, 10**6)


class PlacesMachine(RuleBasedStateMachine):
    """Submitters, workers and an operator, in any order."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.redis: Redis = Redis.from_url(self.url, decode_responses=True)
        self.do(self._begin())
        self.hands = Hands(self.redis)
        #: Of each job that a worker has, the flight that it leads.
        self.leads: dict[str, str] = {}

    async def _begin(self) -> None:
        await self.redis.flushdb()

    def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.do(self._end_all())
        finally:
            self.do(self.redis.aclose())
            self.runner.close()

    async def _end_all(self) -> None:
        for _ in range(10 * len(self.hands.jobs) + 10):
            for job_id in list(self.hands.running):
                await self._finish(job_id)
            await self.hands.share(ready_window=16)
            await self.hands.ledger.flights.repair_flights()
            await self._resume()
            if await self.hands.take() is None and not self.hands.running:
                break
        states = Counter([await self._state(job_id) for job_id in self.hands.jobs])
        assert set(states) <= {"answered", "cancelled"}, states
        assert len(set(self.hands.jobs)) == sum(states.values())
        left = [key async for key in self.redis.scan_iter("llmq:*")]
        places = (
            "llmq:backlog",
            "llmq:flows",
            "llmq:arrivals",
            "llmq:held",
            "llmq:running",
            "llmq:followers",
        )
        assert [key for key in left if key.startswith(places)] == []

    async def _resume(self) -> None:
        """The pauses are over."""
        for job_id in await self.redis.zrange(keys.PAUSED, 0, -1):
            await self.redis.zadd(keys.PAUSED, {str(job_id): 1})
        await self.hands.ledger.limits.tick()

    async def _state(self, job_id: str) -> str:
        return str(await self.redis.hget(keys.job_key(job_id), "state"))

    # What happens

    @rule(
        org=st.integers(0, 3),
        guild=st.integers(0, 2),
        count=st.sampled_from([1, 1, 5, 30]),
        priority=st.sampled_from([0, 3, 9]),
    )
    def submit(self, org: int, guild: int, count: int, priority: int) -> None:
        for _ in range(count):
            self.do(self.hands.submit(f"o{org}", f"g{guild}", priority=priority))

    @rule(then=st.sampled_from(["call", "call", "flight", "pause", "hand back", "finish"]), seed=SEEDS)
    def take(self, then: str, seed: int) -> None:
        self.do(self._take(then, seed))

    async def _take(self, then: str, seed: int) -> None:
        job = await self.hands.take()
        if job is None:
            return
        epoch, ledger = self.hands.running[job.id], self.hands.ledger
        match then:
            case "call":
                admission = await ledger.limits.admit(job.id, epoch, [LIMIT], begun=0, ended=())
                if admission.verdict == "waits":
                    del self.hands.running[job.id]
            case "flight":
                name = FLIGHTS[seed % len(FLIGHTS)]
                if (await ledger.flights.join(job.id, epoch, name)).verdict == "leads":
                    self.leads[job.id] = name
                else:
                    del self.hands.running[job.id]
            case "pause":
                await ledger.limits.pause(job.id, epoch, timedelta(minutes=1), begun=1, ended=())
                del self.hands.running[job.id]
            case "hand back":
                await ledger.hand_back(job.id, epoch, begun=0, ended=(), call_under_way=False)
                await ledger.announce(job)
                del self.hands.running[job.id]
            case _:
                await self._finish(job.id)

    @rule(seed=SEEDS)
    def finish(self, seed: int) -> None:
        if running := sorted(self.hands.running):
            self.do(self._finish(running[seed % len(running)]))

    async def _finish(self, job_id: str) -> None:
        await self.hands.finish(self.hands.jobs[job_id], (100, 10))
        if (name := self.leads.pop(job_id, None)) is None:
            return
        for record in await self.hands.ledger.flights.followers_of(name):
            await self.hands.ledger.flights.finish_follower(
                record.job.id, name, JobState.ANSWERED, META, dead=False, charge=None
            )

    @rule(seed=SEEDS)
    def cancel(self, seed: int) -> None:
        self.do(self._cancel(seed))

    async def _cancel(self, seed: int) -> None:
        queued = [job_id for job_id in self.hands.jobs if await self._state(job_id) == "queued"]
        if queued:
            job_id = queued[seed % len(queued)]
            await self.hands.ledger.cancel(job_id, by="caller", meta=META)
            await self.hands.ledger.limits.give_up(job_id)

    @rule()
    def look_after_turns(self) -> None:
        self.do(self.hands.share(ready_window=16))

    @rule()
    def pauses_end(self) -> None:
        self.do(self._resume())

    # What holds at all times

    @invariant()
    def each_job_is_in_one_place(self) -> None:
        self.do(self._check())

    async def _check(self) -> None:
        found = await self.hands.places()
        for name in ("llmq:waiting:*", "llmq:followers:*"):
            async for key in self.redis.scan_iter(name):
                for job_id in cast("list[str]", await self.redis.zrange(key, 0, -1)):
                    found.setdefault(job_id, []).append(str(key))
        for job_id in cast("list[str]", await self.redis.zrange(keys.PAUSED, 0, -1)):
            found.setdefault(job_id, []).append("paused")
        for job_id in self.hands.jobs:
            state, places = await self._state(job_id), found.get(job_id, [])
            if state == "running":
                assert places == ["leases"], (job_id, places)
            elif state == "queued":
                assert len(places) == 1, (job_id, places)
                assert places != ["leases"]
        limited = await self.redis.zcard(keys.RUNNING_PREFIX + LIMIT.id)
        assert limited <= LIMIT.most_running


def test_every_job_is_in_one_place_whatever_happens(valkey: ValkeyServer) -> None:
    PlacesMachine.url = valkey.url
    run_random_lives(PlacesMachine, 12)
