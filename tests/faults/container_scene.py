"""The compose file's project as a scene of faults: what is done to its containers, and the history of it."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

import redis

from faults.callers import Callers
from faults.checker import Verdict, assert_promises
from faults.history import History, Hit, WorkerFault
from faults.scene import job_end, unfinished_work
from support.containers.stack import Stack, run
from support.processes.wait import wait_until
from support.providers.provider_plan import Step

#: Longer than it takes to hit a worker in the middle of its calls.
CALL_S = 3.0


class ContainerScene:
    """Calls that go through the stack's workers while something is done to them.

    Args:
        stack: the project, running; the provider's record is emptied.
    """

    def __init__(self, stack: Stack, callers: Callers) -> None:
        self.stack, self.callers = stack, callers
        self._faults: list[WorkerFault] = []
        self._outages: list[tuple[float, float]] = []
        stack.provider.reset()
        stack.provider.plan("*", Step(delay_s=CALL_S, times=None))

    def ask(self, count: int, prefix: str) -> None:
        """Start calls, and wait until the provider has all of them at once."""
        self.callers.ask(count, prefix)
        wait_until(lambda: self.stack.provider.open_calls >= count, 30, f"{count} calls at the provider")

    def kill(self, container: str) -> None:
        """SIGKILL."""
        with self._hit("killed"):
            run("docker", "kill", container)

    @contextmanager
    def paused(self, container: str) -> Iterator[None]:
        """Frozen by the engine for the length of the block."""
        with self._hit("frozen", noticed_s=1.0):
            run("docker", "pause", container)
            try:
                yield
            finally:
                run("docker", "unpause", container)

    def restart_valkey(self) -> None:
        """SIGTERM, and a start on the data that it wrote."""
        (valkey,) = self.stack.containers("valkey")
        from_s = time.monotonic()
        run("docker", "restart", valkey)
        self._outages.append((from_s, time.monotonic()))

    @contextmanager
    def _hit(self, hit: Hit, noticed_s: float = 0.0) -> Iterator[None]:
        from_s = time.monotonic()
        yield
        self._faults.append(WorkerFault(hit, from_s, time.monotonic() + noticed_s))

    def prove(self) -> Verdict:
        """Wait until all calls have ended; raises `AssertionError` where a promise was broken."""
        calls = list(self.callers.wait(120))
        with redis.Redis.from_url(self.stack.url("worker"), decode_responses=True) as client:
            wait_until(lambda: not unfinished_work(client), 20, "the queue to be at rest")
            jobs = {call.job_id: job_end(client, call.job_id) for call in calls if call.job_id}
        requests = [one for one in self.stack.provider.requests() if one.provider != "unknown"]
        return assert_promises(
            History(calls=calls, requests=requests, faults=self._faults, outages=self._outages, jobs=jobs)
        )
