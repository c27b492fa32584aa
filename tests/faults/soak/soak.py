"""Calls under a random mixture of faults, for as long as one likes, judged round by round.

Run as ``python -m faults.soak --minutes 60 --seed 7``. The same seed makes the same faults and calls in
the same order. Exits with 1, and the violations, when a promise was broken.
"""

import argparse
import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from faults.callers import Callers
from faults.checker import Verdict, check
from faults.history import Ending, History, WorkerFault
from faults.scene import Scene
from faults.soak.faults import RedisFaults, WorkerFaults
from faults.soak.odd_answers import hostile_error, odd_answer
from rustic_ai.llm_queue.tasks.ledger import keys
from support.providers.provider import ProviderStub, Step
from support.servers.proxy import TcpProxy
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery

#: After this long the queue is left to come to rest, and the round is judged.
ROUND_S = 45.0
_CALLS_UNDER_WAY = 60
#: A submit whose Redis is away is refused with a clear error.
_ORDINARY: frozenset[Ending] = frozenset({"answered", "refused"})
_FAILED: frozenset[Ending] = frozenset({"failed", "refused"})
#: With no time left for another try, the provider's error is the end.
_SHORT: frozenset[Ending] = frozenset({"answered", "refused", "timeout", "failed"})


@dataclass
class Report:
    """The sum of all rounds."""

    seed: str
    rounds: int = 0
    #: Those in which jobs had to wait in backlogs.
    rounds_with_turns: int = 0
    verdicts: list[Verdict] = field(default_factory=list)
    endings: Counter[str] = field(default_factory=Counter)
    faults: Counter[str] = field(default_factory=Counter)
    drains_s: list[float] = field(default_factory=list)

    @property
    def violations(self) -> list[str]:
        return [one for verdict in self.verdicts for one in verdict.violations]

    def total(self, name: str) -> int:
        """The sum of one of the verdicts' counts."""
        return sum(int(getattr(verdict, name)) for verdict in self.verdicts)

    def __str__(self) -> str:
        reruns_s = sorted(one for verdict in self.verdicts for one in verdict.rerun_s)
        rows = {
            "seed": self.seed,
            "rounds": f"{self.rounds}, with backlogs {self.rounds_with_turns}",
            "jobs": f"{self.total('jobs')} ({_counts(self.endings)})",
            "faults": f"{self.faults.total()} ({_counts(self.faults)})",
            "provider requests": self.total("requests"),
            "repeated after a worker's loss": self.total("duplicates"),
            "avoidable duplicates": self.total("avoidable_duplicates"),
            "losses": self.total("losses"),
            "violations": len(self.violations),
            "worker's death to rerun": _quantiles(reruns_s),
            "SIGTERM to exit": _quantiles(sorted(self.drains_s)),
        }
        return "\n".join(f"{name:<32}{value}" for name, value in rows.items())


def soak(duration_s: float, seed: str, ready_window: int | None = None) -> Report:
    """Run it, with workers of a window of so many wake-ups; returns what came of it."""
    report = Report(seed)
    with (
        ValkeyServer(append_only=True) as server,
        ProviderStub() as provider,
        Nursery() as nursery,
        TcpProxy(server.port) as proxy,
    ):
        nursery.wait_ready()
        ends_at = time.monotonic() + duration_s
        while time.monotonic() < ends_at:
            with Callers(server.url) as callers:
                scene = Scene(server, provider, nursery, callers, url=server.url)
                try:
                    _round(scene, proxy, report, min(ROUND_S, ends_at - time.monotonic()), ready_window)
                finally:
                    scene.end()
            provider.reset()
            server.flush()
    return report


def _round(
    scene: Scene, proxy: TcpProxy, report: Report, duration_s: float, ready_window: int | None
) -> None:
    report.rounds += 1
    name = f"{report.seed}/{report.rounds}"
    workers = WorkerFaults(scene, proxy, random.Random(f"{name}/workers"), ready_window)
    redis = RedisFaults(scene, proxy, random.Random(f"{name}/redis"))
    workers.start_workers()
    ends_at = time.monotonic() + duration_s
    with (
        _repeating(lambda: _strike(workers, workers.random), ends_at),
        _repeating(lambda: _strike(redis, redis.random), ends_at),
    ):
        _keep_asking(scene, random.Random(f"{name}/calls"), ends_at)
    workers.start_workers()
    history = scene.history(timeout_s=100)
    verdict = check(history)
    with scene.server.client() as client:
        report.rounds_with_turns += any(client.scan_iter(f"{keys.VTIME_PREFIX}*", count=1000))
    report.verdicts.append(verdict)
    report.endings.update(str(call.ending) for call in history.calls)
    report.faults.update(workers.done + redis.done)
    report.drains_s += workers.drains_s
    print(f"round {report.rounds}: {verdict}", *_explain(scene, history, verdict), sep="\n", flush=True)


def _explain(scene: Scene, history: History, verdict: Verdict) -> Iterator[str]:
    """All that is known of the first calls that were not served as promised."""
    for call in [
        one for one in history.calls if any(f"{one.tag} (" in found for found in verdict.violations)
    ][:3]:
        yield f"--- {call}"
        around = [call.submitted_at, call.ended_at or 0.0]
        for one in history.requests_of(call.tag):
            yield (
                f"    request {one.id} {one.received_at:.2f} to {one.ended_at or 0:.2f} status {one.status} "
                f"fault {one.fault} completed {one.completed} closed by client {one.client_closed}"
            )
        yield f"    Redis forgot everything at {[round(at, 2) for at in history.flushes]}"
        for kind, events in (("fault", history.faults), ("outage", history.outages)):
            yield from (f"    {kind} {one}" for one in events if _overlaps(one, *around))
        for worker in scene.workers:
            yield from (
                f"    {worker.nodename} {line}"
                for line in worker.logs().splitlines()
                if str(call.job_id) in line
            )


def _overlaps(event: WorkerFault | tuple[float, float], from_s: float, until_s: float) -> bool:
    begins, ends = (event.from_s, event.until_s) if isinstance(event, WorkerFault) else event
    return begins <= until_s + 1 and ends >= from_s - 1


def _strike(faults: WorkerFaults | RedisFaults, dice: random.Random) -> None:
    time.sleep(dice.uniform(0.3, 3.0))
    faults.strike()


@contextmanager
def _repeating(step: Callable[[], None], ends_at: float) -> Iterator[None]:
    failures: list[BaseException] = []

    def run() -> None:
        try:
            while time.monotonic() < ends_at:
                step()
        except BaseException as failure:
            failures.append(failure)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    yield
    thread.join(60)
    if failures:
        raise failures[0]


def _keep_asking(scene: Scene, dice: random.Random, ends_at: float) -> None:
    number = 0
    while time.monotonic() < ends_at:
        if scene.callers.under_way >= _CALLS_UNDER_WAY:
            time.sleep(0.05)
            continue
        number += 1
        _ask(scene, f"c{number}", dice)
        time.sleep(0.02)


def _ask(scene: Scene, prefix: str, dice: random.Random) -> None:
    """One call with a provider of one mood or another."""
    odd = dice.random()
    if odd < 0.15:
        _ask_oddly(scene, prefix, dice, hostile=odd < 0.05)
        return
    pace = Step(delay_s=dice.choice([0.0, 0.2, 1.0, 3.0]))
    failures = dice.choice([(), (), (), (Step(status=500),), (Step(fault="cut"),), _rate_limited()])
    stream = dice.random() < 0.3
    if stream:
        pace = Step(words=dice.choice([10, 60]), chunk_delay_s=0.02)
    scene.provider.plan(f"{prefix}-0", *failures, pace.model_copy(update={"times": None}))
    short = dice.random() < 0.1
    scene.callers.ask(
        1,
        prefix,
        timeout_s=1.5 if short else 60.0,
        may_end=_SHORT if short else _ORDINARY,
        stream=stream,
    )


def _ask_oddly(scene: Scene, prefix: str, dice: random.Random, *, hostile: bool) -> None:
    """One call whose answer, or error, is of no form that a provider should send."""
    stream = dice.random() < 0.3
    if hostile:
        scene.provider.plan(f"{prefix}-0", hostile_error(dice))
        scene.callers.ask(1, prefix, may_end=_FAILED, stream=stream)
        return
    step, text = odd_answer(dice, stream=stream)
    scene.provider.plan(f"{prefix}-0", step)
    scene.callers.ask(1, prefix, may_end=_ORDINARY, stream=stream, raw_text=text)


def _rate_limited() -> tuple[Step, ...]:
    return Step(status=429, retry_after_s=0.2), Step(status=503)


def _counts(counter: Counter[str]) -> str:
    return ", ".join(f"{name} {count}" for name, count in counter.most_common())


def _quantiles(values: list[float]) -> str:
    if not values:
        return "none"
    p50, p99 = (values[min(len(values) - 1, int(len(values) * share))] for share in (0.5, 0.99))
    return f"p50 {p50:.1f} s, p99 {p99:.1f} s, of {len(values)}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=1.0)
    parser.add_argument("--seed", default=str(random.SystemRandom().randrange(10**6)))
    parser.add_argument("--ready-window", type=int, help="wake-ups that lie ready, by priority; 16 or more")
    arguments = parser.parse_args()
    print(f"seed {arguments.seed}", flush=True)
    report = soak(arguments.minutes * 60, arguments.seed, arguments.ready_window)
    print(report)
    for violation in report.violations:
        print(violation)
    return 1 if report.violations else 0
