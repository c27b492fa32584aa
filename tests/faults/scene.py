"""A queue, its workers, a provider and their callers; what is done to them, and the history of it all."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import redis

from faults.callers import Callers
from faults.history import History, Hit, JobEnd, WorkerFault
from rustic_ai.llm_queue.tasks.job import PRIORITIES
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.names import DEFAULT_QUEUE
from support.processes.leaks import lasting_keys
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.nursery import CLOCK_OFF_S, Nursery, NurseryWorker

#: Short enough for tests to be quick, long enough for a busy machine to renew in time.
QUICK = {
    "LLM_QUEUE_LEASE": "3s",
    "LLM_QUEUE_BEAT": "600ms",
    "LLM_QUEUE_REAP_EVERY": "300ms",
    "LLM_QUEUE_RETRY_BASE": "100ms",
    "LLM_QUEUE_RETRY_CAP": "500ms",
    # The least that is allowed, so that jobs wait in backlogs as soon as more than a few wait at all.
    "LLM_QUEUE_FAIR_SHARE": '{"ready_window": 16}',
}
QUICK_LEASE_S = 3.0
_PLAIN_WORKER = ("--without-gossip", "--without-mingle")


@dataclass
class Scene:
    """What one test needs; made by the fixture `scene`."""

    server: ValkeyServer
    provider: ProviderStub
    nursery: Nursery
    callers: Callers
    #: The URL workers and callers use, where it is not the server's own.
    url: str
    workers: list[NurseryWorker] = field(default_factory=list)
    faults: list[WorkerFault] = field(default_factory=list)
    outages: list[tuple[float, float]] = field(default_factory=list)
    #: When Redis lost all it had.
    flushes: list[float] = field(default_factory=list)

    def start_worker(
        self,
        env: Mapping[str, str] | None = None,
        *,
        url: str | None = None,
        wait: bool = True,
        quick: bool = True,
        clock_off_s: float = 0.0,
        **more: str,
    ) -> NurseryWorker:
        """Start one more worker; settings are without their prefix, such as ``DRAIN="1s"``.

        Its clock is `clock_off_s` ahead of this machine's, or behind it.
        """
        settings = {f"LLM_QUEUE_{name}": value for name, value in {**(env or {}), **more}.items()}
        worker = NurseryWorker(
            self.nursery,
            {
                "LLM_QUEUE_REDIS_URL": url or self.url,
                **(QUICK if quick else {}),
                **self.provider.env(),
                **({CLOCK_OFF_S: str(clock_off_s)} if clock_off_s else {}),
                **settings,
            },
            args=_PLAIN_WORKER,
            log_path=scratch_dir("worker") / "worker.log",
        )
        self.workers.append(worker)
        worker.launch()
        if wait:
            worker.wait_ready()
        return worker

    def start_workers(self, count: int, env: Mapping[str, str] | None = None, *, quick: bool = True) -> None:
        """Start so many at the same moment, and wait until they take jobs."""
        for _ in range(count):
            self.start_worker(env, quick=quick, wait=False)
        for worker in self.workers:
            worker.wait_ready()

    def end(self) -> None:
        """Kill the workers; nothing is put on record."""
        for worker in self.workers:
            worker.kill()

    # What is done to workers, put on record

    def kill(self, worker: NurseryWorker) -> float:
        """SIGKILL; returns when."""
        at = time.monotonic()
        worker.kill()
        self.note("killed", at, time.monotonic())
        return at

    @contextmanager
    def frozen(self, worker: NurseryWorker) -> Iterator[None]:
        """SIGSTOP for the length of the block."""
        at = time.monotonic()
        worker.freeze()
        try:
            yield
        finally:
            worker.thaw()
            # It takes a beat to learn that it has lost its jobs.
            self.note("frozen", at, time.monotonic() + 1.0)

    def note(self, hit: Hit, from_s: float, until_s: float) -> None:
        """Put on record what was done to a worker."""
        self.faults.append(WorkerFault(hit, from_s, until_s))

    # How far it all is

    def state_of(self, tag: str) -> str | None:
        """The ledger's state of the job that asks with this tag, found by its prompt."""
        with self.server.client() as client:
            for key in client.scan_iter(f"{keys.JOB_PREFIX}*", count=1000):
                state, request = client.hmget(key, "state", "request")
                if request and f"#{tag}" in request:
                    return str(state)
        return None

    def running(self) -> int:
        """Jobs that workers hold."""
        with self.server.client() as client:
            return int(client.zcard(keys.LEASES))

    def waiting(self) -> int:
        """Jobs on the queue."""
        with self.server.client() as client:
            return _waiting(client)

    def messages(self) -> int:
        """Wake-ups in Celery's lists."""
        with self.server.client() as client:
            return _messages(client)

    def wait_running(self, count: int, timeout_s: float = 20.0) -> None:
        """Wait until workers hold at least so many jobs, each with its call at the provider."""
        self.until(lambda: self.running() >= count, f"{count} jobs to run", timeout_s)
        self.until(lambda: self.provider.open_calls >= count, f"{count} calls at the provider", timeout_s)

    def until(self, predicate: Callable[[], Any], what: str, timeout_s: float = 20.0) -> None:
        """Wait; a failure carries the ends of the workers' logs."""
        try:
            wait_until(predicate, timeout_s, what)
        except AssertionError as failure:
            for worker in self.workers:
                failure.add_note(f"--- {worker}\n{worker.log_tail(25)}")
            raise

    # The history

    def history(self, timeout_s: float = 90.0) -> History:
        """Wait until all calls have ended and the queue is at rest, then tell what happened."""
        calls = self.callers.wait(timeout_s)
        leftovers = self._settle()
        return History(
            calls=list(calls),
            requests=[one for one in self.provider.requests() if one.provider != "unknown"],
            faults=list(self.faults),
            outages=list(self.outages),
            flushes=list(self.flushes),
            jobs=self.jobs(),
            leftovers=leftovers,
        )

    def _settle(self) -> list[str]:
        try:
            wait_until(lambda: not self._leftovers(), 15.0)
        except AssertionError:
            return self._leftovers()
        return []

    def _leftovers(self) -> list[str]:
        with self.server.client() as client:
            counts = {
                **unfinished_work(client),
                "unacked messages": client.hlen("unacked") + client.zcard("unacked_index"),
                "calls at the provider": self.provider.open_calls,
                "jobs within limits": _count(client, keys.RUNNING_PREFIX),
                "limits waited for": _count(client, keys.WAITING_PREFIX),
                "jobs that hold something of limits": _count(client, keys.HELD_PREFIX),
                "pauses": client.zcard(keys.PAUSED),
            }
            lasting = lasting_keys(client)
        found = [f"{count} {what}" for what, count in counts.items() if count]
        return found + [f"key without a TTL: {key}" for key in lasting]

    def jobs(self) -> dict[str, JobEnd]:
        """All jobs of the ledger as they stand, by id."""
        ends = {}
        with self.server.client() as client:
            for key in client.scan_iter(f"{keys.JOB_PREFIX}*", count=1000):
                job_id = str(key).removeprefix(keys.JOB_PREFIX)
                ends[job_id] = job_end(client, job_id)
        return ends


def _count(client: redis.Redis, prefix: str) -> int:
    return sum(1 for _ in client.scan_iter(f"{prefix}*", count=1000))


_RESULT_KINDS = {"SUCCESS": "answered", "REVOKED": "cancelled"}


def _waiting(client: redis.Redis) -> int:
    return sum(int(client.zcard(keys.queued_key(DEFAULT_QUEUE, one))) for one in PRIORITIES)


def _messages(client: redis.Redis) -> int:
    return sum(int(client.llen(keys.message_list(DEFAULT_QUEUE, one))) for one in PRIORITIES)


def unfinished_work(client: redis.Redis) -> dict[str, int]:
    """What the queue still has to do, counted by kind; empty when it is at rest."""
    counts = {
        "jobs waiting": _waiting(client),
        "wake-ups": _messages(client),
        "leases": int(client.zcard(keys.LEASES)),
        "deadlines": int(client.zcard(keys.DEADLINES)),
    }
    return {what: count for what, count in counts.items() if count}


def job_end(client: redis.Redis, job_id: str) -> JobEnd:
    """A job of the ledger as it stands, with a client that decodes."""
    names = ("state", "epoch", "handbacks", "generation")
    state, *counts = client.hmget(keys.job_key(job_id), *names)
    epoch, handbacks, generation = (int(count or 0) for count in counts)
    raw = client.get(keys.result_key(job_id))
    result = None
    if isinstance(raw, str):
        meta = json.loads(raw)
        sealed = str(meta["sealed"]).partition(":")[2]
        plain = sealed.startswith("{")
        result = json.loads(sealed)["outcome"]["kind"] if plain else _RESULT_KINDS.get(meta["status"])
    return JobEnd(str(state), result, epoch=epoch, handbacks=handbacks, generation=generation)


@contextmanager
def own_scene(*, append_only: bool = False) -> Iterator[Scene]:
    """A queue with a server, a provider and callers of its own, without workers; they end with the block."""
    with (
        ValkeyServer(append_only=append_only) as server,
        ProviderStub() as provider,
        Nursery() as nursery,
        Callers(server.url) as callers,
    ):
        nursery.wait_ready()
        scene = Scene(server, provider, nursery, callers, url=server.url)
        try:
            yield scene
        finally:
            scene.end()
