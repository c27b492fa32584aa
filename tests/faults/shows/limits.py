"""What many jobs that wait for a limit do to others, on real workers.

    cd tests && python -m faults.shows.limits refusal [--jobs 1000] [--workers 4]
    cd tests && python -m faults.shows.limits places [--jobs 10000] [--places 10]
    cd tests && python -m faults.shows.limits room [--jobs 1000] [--workers 4]

`refusal`: jobs wait for room, and a provider refuses a call (429): from then on no worker calls it. `places`:
jobs wait in a worker of so many places, and another model is asked for: its call starts at once. `room`: jobs
wait for a limit of one call at once, and the provider answers at once: how long it is from one to the next,
whichever worker makes it. Each prints what it saw, and exits with 1 when a promise was broken. Redis, workers
and the provider are its own.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import time

from faults.callers import MODEL
from faults.scene import Scene, own_scene
from rustic_ai.llm_queue.resolver import JobHandle
from rustic_ai.llm_queue.tasks.ledger import keys
from support.callers.llm import ask
from support.providers.provider import Step

OTHER_MODEL = "anthropic/claude-sonnet-4-5"
_WAIT_S = 300.0
_AT_ONCE_S = 1.0
_ROOM_MS = 50.0


def waiting(scene: Scene) -> int:
    """Jobs that wait for a limit."""
    with scene.server.client() as client:
        found = list(client.scan_iter(f"{keys.WAITING_PREFIX}*"))
        return sum(int(client.zcard(key)) for key in found)


def calls_after_a_refusal(scene: Scene, *, jobs: int, workers: int) -> tuple[int, list[JobHandle]]:
    """Calls that reach the provider once one of two was refused, and the jobs, all of which wait then."""
    rules = {
        "LIMITS": json.dumps([{"name": "two", "match": {"provider": "openai"}, "max_parallel_requests": 2}])
    }
    scene.start_workers(workers, rules)
    model = MODEL.rpartition("/")[2]
    scene.provider.plan("refused", Step(hold=True, status=429, retry_after_s=600), model=model)
    scene.provider.plan("held", Step(hold=True), model=model)
    llm = scene.callers.llm(timeout=1_700)
    under_way = [llm.submit(ask("#refused")), llm.submit(ask("#held"))]
    scene.provider.wait_for_requests(2)
    rest = [llm.submit(ask(f"#rest-{number}")) for number in range(jobs)]
    scene.until(lambda: waiting(scene) == jobs, "all the others to wait", _WAIT_S)
    scene.provider.release("refused")
    with scene.server.client() as client:
        scene.until(lambda: client.zcard(keys.CLOSED), "the refusal to be known")
    # The end of a call makes room, which goes to the first of those that wait, in whatever worker.
    scene.provider.release("held")
    assert under_way[1].result(_WAIT_S)
    scene.until(lambda: waiting(scene) == jobs + 1, "all to wait again")
    return len(scene.provider.requests()) - 2, [under_way[0], *rest]


def other_models_start_s(scene: Scene, *, jobs: int, places: int) -> tuple[float, list[JobHandle]]:
    """Seconds until the provider has another model's call, and the jobs that wait meanwhile."""
    rules = {
        "LIMITS": json.dumps([{"name": "one", "match": {"provider": "openai"}, "max_parallel_requests": 1}])
    }
    scene.provider.plan("*", Step(hold=True), Step(times=None), model=MODEL.rpartition("/")[2])
    scene.start_worker(rules, CONCURRENCY=str(places))
    llm = scene.callers.llm(timeout=1_700)
    held = [llm.submit(ask(f"#held-{number}")) for number in range(jobs)]
    scene.until(lambda: waiting(scene) == jobs - 1, "all but one to wait", _WAIT_S)
    began = time.monotonic()
    answer = scene.callers.llm(model=OTHER_MODEL).completion(ask("#other"))
    (request,) = scene.provider.requests("other")
    assert answer.limited_by is None
    return request.received_at - began, held


def gaps_s(scene: Scene, *, jobs: int, workers: int) -> list[float]:
    """Seconds from each call at the provider to the next, where one call at once is allowed."""
    rules = {
        "LIMITS": json.dumps([{"name": "one", "match": {"provider": "openai"}, "max_parallel_requests": 1}])
    }
    scene.provider.plan("held", Step(hold=True), model=MODEL.rpartition("/")[2])
    scene.start_workers(workers, rules)
    llm = scene.callers.llm(timeout=1_700)
    handles = [llm.submit(ask("#held"))]
    scene.provider.wait_for_requests(1)
    handles += [llm.submit(ask(f"#gap-{number}")) for number in range(jobs - 1)]
    scene.until(lambda: waiting(scene) == jobs - 1, "all but one to wait", _WAIT_S)
    scene.provider.release("held")
    for handle in handles:
        handle.result(_WAIT_S)
    received = sorted(request.received_at for request in scene.provider.requests())
    # Before each worker's first call LiteLLM loads what it needs for it.
    return [later - earlier for earlier, later in itertools.pairwise(received[20:])]


def _show_refusal(scene: Scene, given: argparse.Namespace) -> bool:
    calls, jobs = calls_after_a_refusal(scene, jobs=given.jobs or 1_000, workers=given.workers)
    print(f"{len(jobs)} jobs wait at {given.workers} workers: {calls} calls after the refusal was known")
    return calls == 0


def _show_places(scene: Scene, given: argparse.Namespace) -> bool:
    start_s, jobs = other_models_start_s(scene, jobs=given.jobs or 10_000, places=given.places)
    print(
        f"{len(jobs) - 1} jobs wait in a worker of {given.places} places: another model's call was at its "
        f"provider after {start_s * 1000:.0f} ms"
    )
    return start_s < _AT_ONCE_S


def _show_room(scene: Scene, given: argparse.Namespace) -> bool:
    gaps = sorted(gaps_s(scene, jobs=given.jobs or 1_000, workers=given.workers))
    p50_ms, p99_ms = (1000 * gaps[int(len(gaps) * part)] for part in (0.5, 0.99))
    print(
        f"{len(gaps)} calls after one another at {given.workers} workers: from one to the next "
        f"p50 {p50_ms:.1f}, p99 {p99_ms:.1f}, at most {1000 * gaps[-1]:.1f} ms"
    )
    return p99_ms <= _ROOM_MS


def main() -> int:
    """Run one of them and print what it saw; 1 when a promise was broken."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    shows = {"refusal": _show_refusal, "places": _show_places, "room": _show_room}
    parser.add_argument("show", choices=shows)
    parser.add_argument("--jobs", type=int)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--places", type=int, default=10)
    given = parser.parse_args()
    with own_scene() as scene:
        kept = shows[given.show](scene, given)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
