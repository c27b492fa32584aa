"""What a key tag and a cluster cost a call, against one server without. `python -m bench.cluster_cost`.

CPU of the steps of an answered job (submit, claim, and finish, which publishes the result), many jobs at
once: of the process that asks, and of all servers it asks. Each round does the same with each in turn; a
ratio is of rounds made side by side.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from datetime import timedelta

import uvloop

from bench.lab import cpu_s_of
from bench.ledger_cost import answered_jobs
from bench.report.ratio import paired_ratio
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from support.servers.cluster import TAG, ValkeyCluster
from support.servers.valkey import ValkeyServer

_TTL = timedelta(seconds=10)


@dataclass
class _Contender:
    """A way to keep the queue, and microseconds of CPU a job in each round."""

    name: str
    ledger: Ledger
    server_pids: list[int]
    client_us: list[float] = field(default_factory=list)
    server_us: list[float] = field(default_factory=list)

    async def round(self, jobs: int) -> None:
        ours, servers = time.process_time(), cpu_s_of(self.server_pids)
        await answered_jobs(self.ledger, jobs)
        self.client_us.append((time.process_time() - ours) / jobs * 1e6)
        self.server_us.append((cpu_s_of(self.server_pids) - servers) / jobs * 1e6)


async def _measure(rounds: int, jobs: int) -> list[_Contender]:
    async with AsyncExitStack() as stack:
        one = stack.enter_context(ValkeyServer())
        tagged = stack.enter_context(ValkeyServer())
        cluster = stack.enter_context(ValkeyCluster(append_only=False))

        async def contender(name: str, url: str, key_tag: str, *servers: ValkeyServer) -> _Contender:
            redis = await stack.enter_async_context(connect(url, outage_s=10, key_tag=key_tag))
            pids = [pid for server in servers if (pid := server.process.pid) is not None]
            return _Contender(name, Ledger(redis, result_ttl=_TTL), pids)

        contenders = [
            await contender("one server", one.url, "", one),
            await contender("one server, key tag", tagged.url, TAG, tagged),
            await contender("cluster of three", cluster.url, TAG, *cluster.servers),
        ]
        for each in contenders:
            await each.round(jobs)
            each.client_us.clear()
            each.server_us.clear()
        for number in range(rounds):
            for each in contenders if number % 2 else reversed(contenders):
                await each.round(jobs)
        return contenders


def main() -> None:
    """Print microseconds of CPU a job, and each one's ratio to the first."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--jobs", type=int, default=1_000)
    options = parser.parse_args()
    first, *others = uvloop.run(_measure(options.rounds, options.jobs))
    print(f"{options.rounds} rounds of {options.jobs:,} jobs; µs of CPU a job, medians")
    figures: dict[str, Callable[[_Contender], list[float]]] = {
        "client": lambda one: one.client_us,
        "servers": lambda one: one.server_us,
        "both": lambda one: [sum(pair) for pair in zip(one.client_us, one.server_us, strict=True)],
    }
    for side, of in figures.items():
        print(f"{side:<9}{first.name:<21}{statistics.median(of(first)):6.0f}")
        for other in others:
            ratio = paired_ratio(of(other), of(first))
            print(f"{side:<9}{other.name:<21}{statistics.median(of(other)):6.0f}   {ratio} of one server's")


if __name__ == "__main__":
    main()
