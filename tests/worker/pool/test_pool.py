"""The pool by itself, on the hub that Celery would turn."""

import asyncio
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from billiard.einfo import ExceptionInfo
from billiard.exceptions import Terminated, WorkerLostError
from celery.exceptions import Ignore
from celery.worker import state as worker_state
from kombu.asynchronous import Hub

from rustic_ai.llm_queue.worker.pool.bridge import wait_for
from rustic_ai.llm_queue.worker.pool.pool import AsyncPool
from rustic_ai.llm_queue.worker.pool.pool_task import cancel_reason
from support.processes.wait import wait_until


class Request:
    """Stands in for Celery's request: remembers what the pool reports, and on which thread."""

    def __init__(self, pool: AsyncPool, target: Callable[..., Any], *args: Any, **options: Any) -> None:
        self.told: list[str] = []
        self.threads: set[int] = set()
        self.pid: int | None = None
        self.verdict: Any = None
        self.error: BaseException | None = None
        self.job = pool.apply_async(
            target,
            args,
            accept_callback=self._accepted,
            callback=self._returned,
            error_callback=self._failed,
            timeout_callback=self._timed_out,
            **options,
        )

    def _tell(self, word: str) -> None:
        self.told.append(word)
        self.threads.add(threading.get_ident())

    def _accepted(self, pid: int, at: float) -> None:
        assert abs(at - time.monotonic()) < 5
        self.pid = pid
        self._tell("accepted")

    def _returned(self, verdict: Any) -> None:
        self.verdict = verdict
        self._tell("returned")

    def _failed(self, info: ExceptionInfo) -> None:
        self.error = info.exception.exc
        self._tell("failed")

    def _timed_out(self, soft: bool, timeout: float) -> None:
        self._tell(f"timed out after {timeout} s")


class Bench:
    """A running pool and the hub it reports to."""

    def __init__(self, limit: int) -> None:
        self.hub = Hub()
        self.pool = AsyncPool(limit)
        self.pool.cancel_timeout_s = 5
        self.pool.start()
        self.pool.register_with_event_loop(self.hub)

    def request(self, target: Callable[..., Any], *args: Any, **options: Any) -> Request:
        return Request(self.pool, target, *args, **options)

    def until(self, done: Callable[[], object], what: str) -> None:
        def turn() -> object:
            self.hub.timer.call_after(0.01, lambda: None)
            self.hub.run_once()
            return done()

        wait_until(turn, 10, what)

    def close(self) -> None:
        self.pool.drain_timeout_s = 0
        self.pool.close()
        self.pool.stop()
        self.hub.close()


@pytest.fixture
def bench() -> Iterator[Bench]:
    bench = Bench(limit=2)
    yield bench
    bench.close()


def sleeper(seconds: float = 60.0) -> str:
    wait_for(asyncio.sleep(seconds))
    return "slept"


def test_a_job_is_accepted_and_reported_on_the_main_thread(bench: Bench) -> None:
    request = bench.request(lambda word: (word, threading.get_ident()), "verdict")
    bench.until(lambda: request.told == ["accepted", "returned"], "the verdict")

    word, ran_on = request.verdict
    assert word == "verdict"
    assert request.threads == {threading.get_ident()}
    assert ran_on != threading.get_ident()
    assert bench.pool.in_flight == 0


def test_never_more_in_flight_than_the_limit(bench: Bench) -> None:
    running, peak = 0, 0

    def work() -> None:
        nonlocal running, peak
        running += 1
        peak = max(peak, running)
        wait_for(asyncio.sleep(0.01))
        running -= 1

    requests = [bench.request(work) for _ in range(20)]
    assert [len(one.told) for one in requests] == [1, 1] + [0] * 18

    bench.until(lambda: all("returned" in one.told for one in requests), "all jobs")
    assert peak == 2


def test_two_jobs_never_share_a_pid(bench: Bench) -> None:
    requests = [bench.request(sleeper, 0) for _ in range(10)]
    bench.until(lambda: all("returned" in one.told for one in requests), "all jobs")

    assert len({one.pid for one in requests}) == 10


def test_terminate_stops_the_job_of_that_pid_only(bench: Bench) -> None:
    stopped, other = bench.request(sleeper, correlation_id="a"), bench.request(sleeper, 0.3)
    assert stopped.pid is not None
    bench.pool.terminate_job(stopped.pid)

    bench.until(lambda: other.told == ["accepted", "returned"], "the other job")
    assert stopped.told == ["accepted", "failed"]


def test_terminate_before_the_first_step_never_runs_the_job(bench: Bench) -> None:
    ran: list[int] = []
    blocked = threading.Event()
    # The loop is busy, so the job's start and its end wait behind each other.
    bench.pool.loop.call_soon_threadsafe(blocked.wait, 5)
    request = bench.request(lambda: ran.append(1))
    assert request.pid is not None
    bench.pool.terminate_job(request.pid)
    blocked.set()

    bench.until(lambda: "failed" in request.told, "the end of the job")
    assert ran == []


def test_celery_may_terminate_while_it_is_told_of_the_acceptance(bench: Bench) -> None:
    ran: list[int] = []
    request = Request.__new__(Request)
    request.told, request.threads, request.error = [], set(), None

    bench.pool.apply_async(
        lambda: ran.append(1),
        accept_callback=lambda pid, _: bench.pool.terminate_job(pid),
        error_callback=request._failed,
    )

    bench.until(lambda: request.told == ["failed"], "the end of the job")
    assert ran == []


def test_a_job_that_waits_for_its_turn_can_be_terminated(bench: Bench) -> None:
    running = [bench.request(sleeper) for _ in range(2)]
    ran: list[int] = []
    waiting = bench.request(lambda: ran.append(1))
    assert waiting.told == []

    waiting.job.terminate(15)

    assert waiting.told == ["accepted"]
    assert waiting.pid is not None
    bench.until(lambda: waiting.told == ["accepted", "failed"], "the end of the waiting job")
    assert ran == []
    assert [one.told for one in running] == [["accepted"], ["accepted"]]


@pytest.mark.parametrize(
    ("revoked", "reason", "error"), [(True, "revoked", Terminated), (False, "shutdown", Ignore)]
)
def test_a_cancelled_job_can_tell_why(
    bench: Bench, revoked: bool, reason: str, error: type[Exception]
) -> None:
    seen: list[Any] = []
    begun = threading.Event()

    def work() -> None:
        begun.set()
        try:
            sleeper()
        except asyncio.CancelledError:
            seen.append(cancel_reason())
            seen.append(wait_for(asyncio.sleep(0, cancel_reason())))
            raise

    request = bench.request(work, correlation_id="the-job")
    if revoked:
        worker_state.revoked.add("the-job")
    try:
        assert request.pid is not None
        assert begun.wait(5)
        bench.pool.terminate_job(request.pid)
        bench.until(lambda: "failed" in request.told, "the end of the job")
    finally:
        worker_state.revoked.discard("the-job")

    assert seen == [reason, reason]
    assert isinstance(request.error, error)
    assert cancel_reason() is None


def test_a_job_settles_undisturbed_however_often_it_is_cancelled(bench: Bench) -> None:
    settling, settled = threading.Event(), threading.Event()

    def work() -> None:
        try:
            sleeper()
        except asyncio.CancelledError:
            settling.set()
            sleeper(0.3)
            settled.set()
            raise

    request = bench.request(work, correlation_id="a")
    assert request.pid is not None
    wait_until(lambda: bench.pool.in_flight == 1, 5, "the job to run")
    bench.pool.run(asyncio.sleep(0)).result(5)  # by now the job has begun
    bench.pool.terminate_job(request.pid)
    assert settling.wait(5)
    bench.pool.terminate_job(request.pid)
    bench.pool.terminate()

    assert settled.is_set()
    assert request.told == ["accepted", "failed"]


@pytest.mark.parametrize(
    "error", [SystemExit(3), KeyboardInterrupt(), asyncio.CancelledError(), GeneratorExit()]
)
def test_an_exception_that_means_more_elsewhere_is_a_lost_task_here(
    bench: Bench, error: BaseException
) -> None:
    def work() -> None:
        raise error

    async def waste() -> None:
        raise error

    bystander = bench.request(sleeper, 0.2)
    for target in (work, lambda: wait_for(waste())):
        request = bench.request(target)
        bench.until(lambda request=request: "failed" in request.told, "the end of the job")  # type: ignore[misc]
        assert isinstance(request.error, WorkerLostError)
    bench.until(lambda: "returned" in bystander.told, "the job beside it")


def test_a_time_limit_ends_the_job(bench: Bench) -> None:
    request = bench.request(sleeper, timeout=0.1)

    bench.until(lambda: len(request.told) == 2, "the end of the job")
    assert request.told == ["accepted", "timed out after 0.1 s"]


def test_a_report_that_fails_does_not_stop_the_next(bench: Bench) -> None:
    def refuse(_: Any) -> None:
        raise SystemExit(1)

    bench.pool.apply_async(sleeper, (0,), callback=refuse)
    request = bench.request(sleeper, 0)

    bench.until(lambda: "returned" in request.told, "the job after it")
    bench.until(lambda: bench.pool.in_flight == 0, "nothing in flight")


def test_coroutines_of_others_run_on_the_loop(bench: Bench) -> None:
    async def where() -> asyncio.AbstractEventLoop:
        return asyncio.get_running_loop()

    assert bench.pool.run(where()).result(5) is bench.pool.loop


class Beat:
    """A service that counts its beats, and fails at its first if it is told to."""

    def __init__(self, *, fails_once: bool = False) -> None:
        self.beats = 0
        self.ended = threading.Event()
        self._fails = fails_once

    async def run(self) -> None:
        try:
            while True:
                self.beats += 1
                if self._fails:
                    self._fails = False
                    raise LookupError("at its first beat")
                await asyncio.sleep(0.01)
        except asyncio.CancelledError:
            self.ended.set()
            raise


def test_a_service_runs_until_the_last_job_has_ended(bench: Bench) -> None:
    beat = Beat()
    bench.pool.add_service(beat)
    during: list[bool] = []

    def work() -> None:
        sleeper(0.3)
        during.append(beat.ended.is_set())

    bench.request(work)
    bench.pool.close()
    bench.pool.stop()

    assert during == [False]
    assert beat.ended.is_set()
    assert beat.beats > 1


def test_a_service_that_fails_starts_again(bench: Bench) -> None:
    beat = Beat(fails_once=True)
    bench.pool.add_service(beat)

    wait_until(lambda: beat.beats > 5, 10, "the service to go on")


def test_stop_waits_for_jobs_then_cancels_them(bench: Bench) -> None:
    short, long = bench.request(sleeper, 0.1), bench.request(sleeper)
    bench.pool.drain_timeout_s = 0.5
    bench.pool.close()
    bench.pool.stop()

    assert short.told == ["accepted", "returned"]
    assert long.told == ["accepted", "failed"]
    assert isinstance(long.error, Ignore)


@pytest.mark.timeout(20)
def test_a_quit_signal_that_finds_the_main_thread_with_a_lock_in_hand_ends_the_worker(bench: Bench) -> None:
    request = bench.request(sleeper)
    # Celery's handler of SIGQUIT stops the pool, wherever it has interrupted the main thread: here, in the
    # hub, between two of its callbacks.
    with bench.hub._ready_lock:
        bench.pool.stop()
    # What the main thread then does by itself.
    bench.pool.close()
    bench.pool.terminate()

    assert request.told == ["accepted", "failed"]


def test_a_quit_signal_during_the_drain_ends_it(bench: Bench) -> None:
    request = bench.request(sleeper)
    bench.hub.timer.call_after(0.2, bench.pool.stop)
    bench.pool.drain_timeout_s = 60
    bench.pool.close()
    bench.pool.stop()

    assert request.told == ["accepted", "failed"]


def test_terminating_the_pool_waits_for_nobody(bench: Bench) -> None:
    request = bench.request(sleeper)
    bench.pool.terminate()

    assert request.told == ["accepted", "failed"]


def test_a_job_that_will_not_end_does_not_hold_up_the_end() -> None:
    bench = Bench(limit=1)
    bench.pool.cancel_timeout_s = 0.2

    def stubborn() -> None:
        while True:
            try:
                sleeper(0.05)
            except asyncio.CancelledError:
                continue

    bench.request(stubborn)
    bench.close()
    bench.close()
    assert not bench.pool._thread.running


@pytest.mark.parametrize("how", ["stop", "terminate"])
def test_stopping_twice_or_before_the_start_is_safe(how: str) -> None:
    never_started = AsyncPool(1)
    getattr(never_started, how)()
    bench = Bench(limit=1)
    getattr(bench.pool, how)()
    getattr(bench.pool, how)()
    bench.close()

    async def nothing() -> None: ...

    with pytest.raises(RuntimeError, match="does not run"):
        bench.pool.run(nothing())


def test_a_blocked_loop_shows_in_the_figures(bench: Bench) -> None:
    bench.pool.loop.call_soon_threadsafe(time.sleep, 1.2)

    wait_until(lambda: bench.pool.info["loop-lag-s"] > 0.3, 5, "the lag to show while the loop is blocked")
    wait_until(lambda: bench.pool.info["loop-lag-s"] < 0.1, 5, "the lag to go away again")
