"""Random lives of jobs against the real functions, on a clock that the test moves.

After every step: limits hold exactly what jobs hold, a job is in exactly one place, no limit has more than
it may, and no minute of a provider's has seen more calls than its limit.
"""

import asyncio
import json
import uuid
from collections.abc import Coroutine
from datetime import timedelta
from typing import Any, cast

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
)
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule
from rustic_ai.llm_queue.worker.admission.call_limits import limit_ask
from rustic_ai.llm_queue.worker.admission.estimates import TokenEstimate
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import TTL, a_job
from support.workers.moved_clock import MovedClock
from support.workers.random_lives import run_random_lives

pytestmark = pytest.mark.leaves_keys("llm*", "llmq:*")

LEASE = timedelta(minutes=10)
META = json.dumps({"status": "SUCCESS"})
RULES = {
    "guild": LimitRule(name="guild", max_parallel_requests=3),
    "org": LimitRule(name="org", rpm=30, burst=4),
    "model": LimitRule(name="model", rpm=12, tpm=6_000),
    "key": LimitRule(name="key", max_parallel_requests=4, itpm=9_000, otpm=900),
}
#: Each a call's limits in the one order that all keep.
SETS = (("guild", "model"), ("org", "key"), ("guild", "org", "model", "key"), ("model",), ("key",))
ENDS = ("finish", "hand back", "pause", "lose", "retry")
PRIORITIES = st.sampled_from([0, 3, 9])


class AdmissionMachine(RuleBasedStateMachine):
    """What workers, callers, providers and time may do, in any order."""

    url = ""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.monkeypatch = pytest.MonkeyPatch()
        self.redis: Redis = Redis.from_url(self.url, decode_responses=True)
        self.ledger = Ledger(self.redis, result_ttl=TTL)
        self.jobs: dict[str, tuple[Job, tuple[str, ...], int]] = {}
        self.calls: dict[str, list[float]] = {name: [] for name in RULES}
        self.now_s = 0.0
        self.clock = self.do(self._begin())

    async def _begin(self) -> MovedClock:
        await self.redis.flushdb()
        return await MovedClock.in_place_of_time(self.redis, self.monkeypatch)

    def do[T](self, work: Coroutine[Any, Any, T]) -> T:
        return self.runner.run(work)

    def teardown(self) -> None:
        try:
            self.do(self._end_all())
            left = [key for key in self.do(self._keys()) if key.startswith(("llmq:running", "llmq:held"))]
            assert left == [], "limits hold nothing once all jobs have ended"
            assert "llmq:alarms" not in self.do(self._keys())
        finally:
            self.do(self.redis.aclose())
            self.monkeypatch.undo()
            self.runner.close()

    async def _end_all(self) -> None:
        for job_id in list(self.jobs):
            state = await self._state(job_id)
            if state == "queued":
                await self.ledger.cancel(job_id, by="caller", meta=META)
                await self.ledger.limits.give_up(job_id)
            elif state == "running":
                await self._finish(job_id)
        assert await self.ledger.limits.repair_limits() == 0
        await self.ledger.limits.tick()

    async def _keys(self) -> list[str]:
        return [key async for key in self.redis.scan_iter("llmq:*")]

    async def _state(self, job_id: str) -> str:
        return str(await self.redis.hget(f"llmq:job:{job_id}", "state"))

    async def _with_state(self, state: str) -> list[str]:
        return [job_id for job_id in self.jobs if await self._state(job_id) == state]

    def asks(self, job_id: str) -> list[LimitAsk]:
        _, names, cost = self.jobs[job_id]
        return [
            limit_ask(RULES[name], f"{name}:x", TokenEstimate(cost, cost // 2, cost // 2), "openai")
            for name in names
        ]

    # What happens

    @rule(names=st.sampled_from(SETS), cost=st.sampled_from([10, 50, 400]), priority=PRIORITIES)
    def submit(self, names: tuple[str, ...], cost: int, priority: Any) -> None:
        job = a_job(priority=priority, timeout_ms=3_600_000)
        self.jobs[job.id] = (job, names, cost)
        self.do(self.ledger.submit(job))

    @rule(seed=st.integers(0, 10**6), wait_s=st.sampled_from([None, None, 0, 20]))
    def take_up(self, seed: int, wait_s: int | None) -> None:
        """A worker claims an announced job, and asks for its next call."""
        self.do(self._take_up(seed, wait_s))

    async def _take_up(self, seed: int, wait_s: int | None) -> None:
        announced: list[str] = []
        for priority in (0, 3, 9):
            found = await self.redis.zrange(f"llmq:queued:llm:{priority}", 0, -1)
            announced += cast("list[str]", found)
        if not announced:
            return
        job_id = announced[seed % len(announced)]
        claim = await self.ledger.claim(
            job_id, worker="w", token=uuid.uuid4().hex, lease=LEASE, most_losses=99
        )
        assert claim.verdict == "granted"
        await self._ask(job_id, claim.epoch, wait_s)

    async def _ask(self, job_id: str, epoch: int, wait_s: int | None = None) -> None:
        longest = None if wait_s is None else timedelta(seconds=wait_s)
        record = await self.ledger.record(job_id)
        assert record is not None
        admission = await self.ledger.limits.admit(
            job_id, epoch, self.asks(job_id), begun=record.attempts_begun - 1, ended=(), longest_wait=longest
        )
        if admission.verdict == "granted":
            for name in self.jobs[job_id][1]:
                self.calls[name].append(self.now_s)
        elif admission.verdict == "refused":
            await self.ledger.finish(job_id, epoch, JobState.FAILED, META, attempts=())

    @rule(
        seed=st.integers(0, 10**6),
        how=st.sampled_from(["finish", "cancel", "hand back", "pause", "lose", "retry"]),
    )
    def end_or_leave(self, seed: int, how: str) -> None:
        self.do(self._end_or_leave(seed, how))

    async def _end_or_leave(self, seed: int, how: str) -> None:
        running = await self._with_state("running")
        if not running:
            return
        job_id = running[seed % len(running)]
        epoch = await self.ledger.epoch(job_id)
        match how:
            case "finish":
                await self._finish(job_id)
            case "hand back":
                await self.ledger.hand_back(job_id, epoch, begun=0, ended=(), call_under_way=bool(seed % 2))
            case "pause":
                await self.ledger.limits.pause(job_id, epoch, timedelta(seconds=5), begun=1, ended=())
            case "lose":
                await self.redis.zadd("llmq:leases", {job_id: 1})
                renewed_ms = (await self.ledger.renew({}, lease=LEASE)).now_ms
                await self.ledger.reap(renewed_ms=renewed_ms, within=LEASE)
            case "retry":
                await self.redis.hincrby(f"llmq:job:{job_id}", "attempts_begun", 1)
                await self._ask(job_id, epoch)

    async def _finish(self, job_id: str) -> None:
        epoch = await self.ledger.epoch(job_id)
        assert await self.ledger.finish(job_id, epoch, JobState.ANSWERED, META, attempts=()) == "done"

    @rule(seed=st.integers(0, 10**6))
    def cancel_waiting(self, seed: int) -> None:
        self.do(self._cancel_waiting(seed))

    async def _cancel_waiting(self, seed: int) -> None:
        if queued := await self._with_state("queued"):
            job_id = queued[seed % len(queued)]
            assert await self.ledger.cancel(job_id, by="caller", meta=META) == "cancelled"
            await self.ledger.limits.give_up(job_id)

    @rule(seconds=st.sampled_from([0.1, 1.0, 3.0, 20.0, 90.0]))
    def time_passes(self, seconds: float) -> None:
        self.now_s += seconds
        self.do(self.clock.move(seconds))
        self.do(self.ledger.limits.tick())

    @precondition(lambda self: self.jobs)
    @rule(name=st.sampled_from(sorted(RULES)))
    def provider_refuses(self, name: str) -> None:
        closed = LimitAsk(f"{name}:x")
        pause = timedelta(seconds=10)
        self.do(self.ledger.limits.cool(closed, pause, longest=timedelta(minutes=1), why="429"))

    # What holds at all times

    @invariant()
    def limits_hold_what_jobs_hold(self) -> None:
        self.do(self._check_places())

    async def _check_places(self) -> None:
        running: dict[str, set[str]] = {name: set() for name in RULES}
        waiting: dict[str, set[str]] = {name: set() for name in RULES}
        for job_id, (job, names, _) in self.jobs.items():
            held = cast("dict[str, str]", await self.redis.hgetall(f"llmq:held:{job_id}"))
            state = await self._state(job_id)
            for name in names[: int(held.get("passed", 0))]:
                if RULES[name].max_parallel_requests:
                    running[name].add(job_id)
            if waits_for := held.get("waits_for"):
                waiting[waits_for.partition(":")[0]].add(job_id)
            places = [
                await self.redis.zscore(f"llmq:queued:llm:{job.priority}", job_id) is not None,
                await self.redis.zscore("llmq:leases", job_id) is not None,
                "waits_for" in held,
                await self.redis.hexists(f"llmq:job:{job_id}", "paused_until_ms"),
            ]
            assert sum(map(bool, places)) == (state in ("queued", "running")), (state, places)
            assert not held or state in ("queued", "running")
        for name, row in RULES.items():
            assert set(await self.redis.zrange(f"llmq:running:{name}:x", 0, -1)) == running[name]
            assert set(await self.redis.zrange(f"llmq:waiting:{name}:x", 0, -1)) == waiting[name]
            if row.max_parallel_requests:
                assert len(running[name]) <= row.max_parallel_requests

    @invariant()
    def no_minute_has_more_calls_than_its_limit(self) -> None:
        for name, row in RULES.items():
            times = self.calls[name]
            for first, last in zip(times, times[row.rpm or len(times) :], strict=False):
                assert last - first >= 60, f"{row.rpm} requests and one more in {last - first} s"

    @invariant()
    def whoever_waits_has_an_alarm_or_waits_for_a_holder(self) -> None:
        self.do(self._check_alarms())

    async def _check_alarms(self) -> None:
        for name, row in RULES.items():
            if await self.redis.exists(f"llmq:waiting:{name}:x"):
                alarm = await self.redis.zscore("llmq:alarms", f"{name}:x")
                held = await self.redis.zcard(f"llmq:running:{name}:x")
                assert alarm is not None or (row.max_parallel_requests and held >= row.max_parallel_requests)


def test_random_lives_leave_nothing_and_break_no_limit(valkey: ValkeyServer) -> None:
    AdmissionMachine.url = valkey.url
    run_random_lives(AdmissionMachine, 15)
