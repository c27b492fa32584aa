"""A thousand calls at once under a budget for a hundred of them, over four workers.

    cd tests && python -m faults.shows.budget [--jobs 1000] [--workers 4] [--usd 1.0] [--part 1.0]

Each call may cost a cent and a little more for its prompt, and costs `part` of a cent. Prints how many were
called, what was spent, and how many were refused; exits with 1 when more was spent than there is, when a
hold is left, or when less than 99 % of the money was used although calls could have used it. Redis, workers
and the provider are its own.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time

from redis.asyncio import Redis

from faults.scene import Scene, own_scene
from rustic_ai.llm_queue.resolver import BudgetExceeded
from rustic_ai.llm_queue.tasks.ledger.limits.budget_view import BudgetRow, BudgetView
from support.callers.llm import ask
from support.providers.provider import Step

MODEL = "openai/gpt-4o"
_TOKENS_OF_A_CENT = 1_000
#: For the prompts of the calls under way, so that what is left is a whole number of cents.
_FOR_PROMPTS = 1.003
_LEAST_USED = 0.99


async def _row(url: str) -> BudgetRow:
    redis: Redis = Redis.from_url(url, decode_responses=True)
    try:
        (row,) = await BudgetView(redis).rows()
        return row
    finally:
        await redis.aclose()


def show(scene: Scene, *, jobs: int, workers: int, usd: float, part: float) -> bool:
    """Make the calls and print what came of them. False when a promise was broken."""
    tokens = round(_TOKENS_OF_A_CENT * part)
    scene.provider.plan("q", Step(prompt_tokens=0, completion_tokens=tokens, delay_s=0.1, times=None))
    budget = {"name": "acme", "usd": round(usd * _FOR_PROMPTS, 6), "period": "total"}
    scene.start_workers(workers, {"BUDGETS": json.dumps([budget])})
    llm = scene.callers.llm(model=MODEL, max_tokens=_TOKENS_OF_A_CENT, timeout=300)
    began = time.monotonic()
    handles = [llm.submit(ask("#q")) for _ in range(jobs)]
    answered = refused = 0
    for handle in handles:
        try:
            answered += bool(handle.result(300))
        except BudgetExceeded:
            refused += 1
    row = asyncio.run(_row(scene.server.url))
    asked = len(scene.provider.requests("q"))
    print(
        f"{jobs} calls, {workers} workers, {time.monotonic() - began:.1f} s: {asked} reached the provider, "
        f"{answered} answered, {refused} refused; {row.spent:.4f} of {row.limit:.4f} USD spent "
        f"({row.spent / usd:.2%} of {usd:g}), {row.held:g} held"
    )
    used_up = row.spent >= _LEAST_USED * usd or refused == 0
    return row.spent <= row.limit and row.held == 0 and asked == answered and used_up


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--jobs", type=int, default=1_000)
    parser.add_argument("--workers", type=int, default=4)
    parser.add_argument("--usd", type=float, default=1.0)
    parser.add_argument("--part", type=float, default=1.0, help="what a call costs, as a part of a cent")
    given = parser.parse_args()
    with own_scene() as scene:
        kept = show(scene, jobs=given.jobs, workers=given.workers, usd=given.usd, part=given.part)
    return 0 if kept else 1


if __name__ == "__main__":
    sys.exit(main())
