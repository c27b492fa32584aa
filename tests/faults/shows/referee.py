"""Several workers, one limit, and a provider that referees.

    cd tests && python -m faults.shows.referee [--minutes 5] [--rpm 1200] [--kill-every 15]

There is always a backlog. Every so often a worker is killed and another started, and Redis stands still for
some seconds; the clocks of some workers are off. At the end the provider's own times are held against the
limit: no minute may have seen more requests. With `--kill-every 0` nothing fails, and nearly all that the
limit admits has to be used once the workers are under way.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import time
from collections.abc import Sequence

from faults.scene import Scene, own_scene
from support.providers.provider import Step

MINUTE_S = 60.0
#: Of the calls that wait: enough for a backlog at any time.
_MOST_WAITING = 3_000
#: What comes before is the start: the workers' first calls, and the backlog taken in.
_START_S = 10.0
LEAST_USED = 0.97


def over_admissions(times: Sequence[float], rpm: int) -> int:
    """Requests that came when the sliding minute before them had as many as the limit already."""
    ordered = sorted(times)
    pairs = zip(ordered, ordered[rpm:], strict=False)
    return sum(over - first < MINUTE_S for first, over in pairs)


def used_after(times: Sequence[float], start_s: float, rpm: int) -> float:
    """The part of the limit that was used from `start_s` after the first request to the last."""
    later = [at for at in times if at - times[0] >= start_s]
    return len(later) / (rpm * (times[-1] - times[0] - start_s) / MINUTE_S)


def run(
    scene: Scene, *, minutes: float, rpm: int, kill_every_s: float, seed: int, clock_off_s: float
) -> tuple[list[float], float]:
    """The times of the provider's requests, and the seconds from the first to the last."""
    chance = random.Random(seed)
    rules = {"LIMITS": json.dumps([{"name": "referee", "rpm": rpm}])}
    workers = [scene.start_worker(rules) for _ in range(3)]
    workers.append(scene.start_worker(rules, clock_off_s=clock_off_s))
    scene.provider.plan("*", Step(delay_s=0.2, times=None))
    backlog = min(rpm, _MOST_WAITING)
    began, killed, frozen = time.monotonic(), time.monotonic(), not kill_every_s
    while (passed_s := time.monotonic() - began) < minutes * MINUTE_S:
        if (missing := backlog - scene.callers.under_way) > backlog // 4 or passed_s < 1:
            scene.callers.ask(missing, "q", timeout_s=1_700.0, may_end=frozenset({"answered", "cancelled"}))
        time.sleep(0.5)  # the length of the run, not a wait for something
        if kill_every_s and time.monotonic() - killed >= kill_every_s:
            killed = time.monotonic()
            worker = workers.pop(chance.randrange(len(workers)))
            scene.kill(worker)
            # Sooner or later the one whose clock is off is among those that die.
            workers.append(scene.start_worker(rules, wait=False, clock_off_s=clock_off_s))
        if not frozen and passed_s > minutes * MINUTE_S / 2:
            frozen = True
            scene.server.freeze()
            time.sleep(3)  # the fault itself
            scene.server.thaw()
    times = sorted(one.received_at for one in scene.provider.requests())
    scene.callers.drop()
    return times, times[-1] - times[0]


def main() -> int:
    """Run it, print what the referee saw; 1 when the limit was exceeded or left unused."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--rpm", type=int, default=1_200)
    parser.add_argument(
        "--kill-every", type=float, default=15.0, metavar="S", help="0 for a run without faults"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument(
        "--clock-off", type=float, default=60.0, metavar="S", help="of one worker, later of more"
    )
    given = parser.parse_args()
    with own_scene(append_only=True) as scene:
        times, span_s = run(
            scene,
            minutes=given.minutes,
            rpm=given.rpm,
            kill_every_s=given.kill_every,
            seed=given.seed,
            clock_off_s=given.clock_off,
        )
    over = over_admissions(times, given.rpm)
    used = used_after(times, 0, given.rpm)
    later = used_after(times, _START_S, given.rpm)
    print(
        f"{len(times)} requests in {span_s:.0f} s at {given.rpm} a minute: {over} too many, {used:.1%} used, "
        f"{later:.1%} after the first {_START_S:g} s"
    )
    # What a killed worker or a frozen Redis had been granted is lost, as it must be.
    return 1 if over or (later < LEAST_USED and not given.kill_every) else 0


if __name__ == "__main__":
    sys.exit(main())
