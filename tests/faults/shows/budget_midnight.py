"""A budget whose period ends while calls wait for it: no call is in two periods, and none in neither.

    cd tests && python -m faults.shows.budget_midnight [--jobs 300] [--workers 4] [--usd 1.0] [--after 30]
        [--twice]

Midnight comes `after` seconds after the workers start, by a time zone of this run's own; with `--twice` the
clock is set back an hour ten seconds later, as some countries do, so that the day before comes again.
Prints what each period was asked and spent; exits with 1 when one was overspent, or when what was spent is
not what the provider was asked. Redis, workers and the provider are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from zoneinfo import TZPATH, reset_tzpath

from redis.asyncio import Redis

from faults.scene import own_scene
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import Step
from support.servers.time_zone import offset_with_midnight_at, write_time_zone

_ZONE = "Test/Midnight"
_HOUR_S = 3_600
_BACK_AFTER_S = 10
_CENT = Step(prompt_tokens=0, completion_tokens=1_000, delay_s=0.05, times=None)
#: For the prompts of the calls under way, so that what is left is a whole number of cents.
_FOR_PROMPTS = 1.003


@contextmanager
def time_zones() -> Iterator[Path]:
    """A folder whose files are time zones to processes that start meanwhile."""
    before = os.environ.get("PYTHONTZPATH")
    with TemporaryDirectory() as folder:
        os.environ["PYTHONTZPATH"] = os.pathsep.join((folder, *TZPATH))
        reset_tzpath()
        try:
            yield Path(folder)
        finally:
            os.environ.pop("PYTHONTZPATH")
            if before is not None:
                os.environ["PYTHONTZPATH"] = before
            reset_tzpath()


def write_midnight(path: Path, midnight: float, *, twice: bool) -> None:
    """Write a zone in which a day begins at that Unix time."""
    offset = offset_with_midnight_at(midnight)
    back = [(midnight + _BACK_AFTER_S, offset - _HOUR_S)] if twice else []
    write_time_zone(path, [(0.0, offset), *back])


async def _rows(url: str) -> list[BudgetRow]:
    redis: Redis = Redis.from_url(url, decode_responses=True)
    try:
        return sorted(await BudgetView(redis).rows(), key=lambda row: row.period)
    finally:
        await redis.aclose()


def show(*, jobs: int, workers: int, usd: float, after_s: float, twice: bool = False) -> list[BudgetRow]:
    """Make the calls; the periods' rows once both are spent, or `after_s` and a minute have gone.

    Raises `AssertionError` where a promise is broken.
    """
    with time_zones() as folder, own_scene() as scene:
        # Not before: from here on a worker starts within a second or two.
        midnight = round(time.time() + after_s)
        write_midnight(folder / _ZONE, midnight, twice=twice)
        scene.provider.plan("q", _CENT)
        budget = {"name": "daily", "usd": round(usd * _FOR_PROMPTS, 6), "period": "day", "timezone": _ZONE}
        scene.start_workers(workers, {"BUDGETS": json.dumps([budget])})
        llm = scene.callers.llm(model="openai/gpt-4o", max_tokens=1_000, timeout=100_000)
        handles = [llm.submit(ask("#q")) for _ in range(jobs)]

        def spent() -> list[BudgetRow]:
            rows = asyncio.run(_rows(scene.server.url))
            return rows if len(rows) == 2 and all(row.spent >= usd * 0.999 for row in rows) else []

        wait_until(spent, after_s + 60, "both days' money to be spent")
        if twice:
            wait_until(lambda: time.time() > midnight + _BACK_AFTER_S + 5, 60, "the day before once more")
        rows = asyncio.run(_rows(scene.server.url))
        times = [one.received_at for one in scene.provider.requests("q")]
        for handle in handles:
            handle.cancel()
    since_midnight = [at - time.monotonic() + time.time() - midnight for at in times]
    cents = round(usd * 100)
    for row in rows:
        money = f"{row.spent:.4f} of {row.limit:.4f} USD spent, {row.held:g} held"
        print(f"{row.period}: {row.calls} calls, {money}")
    print(f"{sum(at < 0 for at in since_midnight)} requests before midnight, {len(times)} in all")
    assert [row.calls for row in rows] == [cents, cents], "a day was overspent, or its money left"
    assert all(row.held == 0 and row.spent <= row.limit for row in rows)
    assert len(times) == 2 * cents, "a call is in two days, or in none"
    return rows


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=300)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--usd", type=float, default=1.0)
    parser.add_argument("--after", type=float, default=30.0, metavar="S")
    parser.add_argument("--twice", action="store_true")
    given = parser.parse_args()
    try:
        show(jobs=given.jobs, workers=given.workers, usd=given.usd, after_s=given.after, twice=given.twice)
    except AssertionError as error:
        print(error)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
