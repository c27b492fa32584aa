"""What limits and budgets cost Redis: CPU a call with none, one and three. `python -m bench.admission`.

The server's own CPU time, so that a busy machine changes little. Each round makes the same calls with each
number of them in turn; a figure is that of the least disturbed round.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import uuid
from datetime import timedelta

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job, JobState
from rustic_ai.llm_queue.tasks.ledger.charge import Charge
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits.budget_ask import BudgetAsk
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ask import LimitAsk
from rustic_ai.llm_queue.tasks.owner import Owner
from support.servers.valkey import ValkeyServer

OWNER = Owner(org="acme", guild="bench", agent="asker")
LEASE = timedelta(seconds=15)
META = json.dumps({"status": "SUCCESS", "sealed": "x" * 500})
#: Microseconds more than without any. A budget's is that of each beside the first limit or budget, whose part
#: the step `admit` itself is.
TARGETS_US = {"nothing": 0.0, "1 limit": 60.0, "3 limits": 120.0}
TARGET_OF_A_BUDGET_US = 15.0


def limit(name: str) -> LimitAsk:
    """A limit of all kinds, with room for every call."""
    return LimitAsk(
        f"{name}:0123456789abcdef",
        request_us=1,
        request_burst_us=10**9,
        token_us=0.001,
        token_burst_us=10**9,
        tokens=1_500,
        most_running=1_000,
    )


def budget(name: str) -> BudgetAsk:
    """A budget with room for every call."""
    return BudgetAsk(
        f"{name}:0123456789abcdef:month-2026-11",
        unit="usd",
        hold=10_000,
        cap=10**15,
        ends_ms=2**41,
        alerts=(80, 100),
    )


#: What a call asks of limits and of budgets, by a name for the table.
ASKS: dict[str, list[LimitAsk | BudgetAsk]] = {
    "nothing": [],
    "1 limit": [limit("model")],
    "3 limits": [limit("guild"), limit("model"), limit("key")],
    "1 budget": [budget("org")],
    "3 budgets": [budget("agent"), budget("guild"), budget("org")],
    "1 limit, 1 budget": [budget("org"), limit("model")],
}


async def one_call(ledger: Ledger, limits: list[LimitAsk | BudgetAsk]) -> None:
    """A job from submit to its answer, as a worker and an agent make it."""
    job = Job(
        id=str(uuid.uuid4()), owner=OWNER, model="openai/gpt-4o", queue="llm", timeout_ms=60_000,
        request="plain:" + "x" * 1_000, fingerprints="plain:1",
    )  # fmt: skip
    await ledger.submit(job)
    claim = await ledger.claim(job.id, worker="w", token="t", lease=LEASE, most_losses=2)
    if limits:
        admission = await ledger.limits.admit(job.id, claim.epoch, limits, begun=0, ended=())
        assert admission.verdict == "granted"
    charge = Charge(OWNER, job.model, 1_000, 900, 400)
    await ledger.finish(job.id, claim.epoch, JobState.ANSWERED, META, attempts=(), charge=charge)


async def server_us(redis: Redis) -> float:
    """CPU time that the server has used, in microseconds."""
    cpu = await redis.info("cpu")
    return 1e6 * (float(cpu["used_cpu_user_main_thread"]) + float(cpu["used_cpu_sys_main_thread"]))


async def function_us(redis: Redis) -> float:
    """Time that functions have run in the server, in microseconds."""
    stats = await redis.info("commandstats")
    return float(stats.get("cmdstat_fcall", {}).get("usec", 0))


async def measure(url: str, calls: int, rounds: int) -> dict[str, tuple[float, float]]:
    """CPU and function time a call, by what it asks for."""
    cpu: dict[str, list[float]] = {count: [] for count in ASKS}
    functions: dict[str, list[float]] = {count: [] for count in ASKS}
    async with Redis.from_url(url, decode_responses=True) as redis:
        ledger = Ledger(redis, result_ttl=timedelta(minutes=5))
        await one_call(ledger, ASKS["3 limits"])
        for _ in range(rounds):
            for count, limits in ASKS.items():
                before = await server_us(redis), await function_us(redis)
                for _ in range(calls):
                    await one_call(ledger, limits)
                after = await server_us(redis), await function_us(redis)
                cpu[count].append((after[0] - before[0]) / calls)
                functions[count].append((after[1] - before[1]) / calls)
                await redis.flushdb()
    return {count: (min(cpu[count]), min(functions[count])) for count in ASKS}


def _target(name: str) -> str:
    return f"+{TARGETS_US[name]:.0f}" if name in TARGETS_US else ""


def main() -> None:
    """Measure, and print a table with the targets beside the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=300, help="calls of a round")
    parser.add_argument("--rounds", type=int, default=20)
    given = parser.parse_args()
    with ValkeyServer() as server:
        figures = asyncio.run(measure(server.url, given.calls, given.rounds))
        print(f"{server.version}, {given.rounds} rounds of {given.calls} calls; microseconds a call")
    print("| a call asks for | server CPU | more than without | in functions | more than without | target |")
    print("|---|---|---|---|---|---|")
    (no_cpu_us, no_function_us), *_ = figures.values()
    for count, (cpu_us, function_time_us) in figures.items():
        print(
            f"| {count} | {cpu_us:.0f} | +{cpu_us - no_cpu_us:.0f} | {function_time_us:.0f} "
            f"| +{function_time_us - no_function_us:.0f} | {_target(count)} |"
        )
    for one in ("limit", "budget"):
        further_us = (figures[f"3 {one}s"][1] - figures[f"1 {one}"][1]) / 2
        target = f" (target {TARGET_OF_A_BUDGET_US:.0f})" if one == "budget" else ""
        print(f"each further {one}: +{further_us:.0f} in functions{target}")


if __name__ == "__main__":
    main()
