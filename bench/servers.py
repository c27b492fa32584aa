"""What a call costs Redis when the calls are spread over several servers.

    python -m bench.servers

The same jobs, each submitted, claimed and finished with a request of 2 kB and an answer of 1 kB, on 1, 2
and 4 Valkey servers of this machine, as guilds whose `redis_url` differs spread them. What one server does
for a job costs the same however many others there are, so what they carry adds up; a machine with fewer
cores than servers cannot show it in jobs per second.
"""

from __future__ import annotations

import asyncio
import statistics
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta

import uvloop

from bench.lab import cpu_s_of
from bench.ledger_cost import answered_jobs
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from support.servers.valkey import ValkeyServer

COUNTS, ROUNDS, JOBS = (1, 2, 4), 5, 4_000


@dataclass(frozen=True)
class Cost:
    """Milliseconds of CPU a job, of all servers together, and the busiest server's share of it all."""

    cpu_ms: float
    busiest: float


async def round_on(servers: list[ValkeyServer]) -> Cost:
    """All jobs once, in equal parts on each server."""
    clients = [connect(server.url, outage_s=10) for server in servers]
    ledgers = [Ledger(client, result_ttl=timedelta(minutes=5)) for client in clients]
    before = [cpu_s_of([server.process.pid]) for server in servers]
    await asyncio.gather(*(answered_jobs(ledger, JOBS // len(servers)) for ledger in ledgers))
    used = [cpu_s_of([server.process.pid]) - was for server, was in zip(servers, before, strict=True)]
    for client in clients:
        await client.flushdb()
        await client.aclose()
    return Cost(sum(used) / JOBS * 1e3, max(used) / sum(used))


def main() -> None:
    """Print a line for each number of servers."""
    costs: dict[int, list[Cost]] = {count: [] for count in COUNTS}
    with ExitStack() as stack:
        servers = [stack.enter_context(ValkeyServer()) for _ in range(max(COUNTS))]
        for _ in range(ROUNDS):
            for count in COUNTS:
                costs[count].append(uvloop.run(round_on(servers[:count])))
    print(f"{ROUNDS} rounds of {JOBS:,} jobs, medians")
    for count, measured in costs.items():
        cpu_ms = statistics.median(one.cpu_ms for one in measured)
        busiest = statistics.median(one.busiest for one in measured)
        print(f"{count} servers  {cpu_ms:.3f} ms of Redis' CPU a job, the busiest did {busiest:.0%} of it")


if __name__ == "__main__":
    main()
