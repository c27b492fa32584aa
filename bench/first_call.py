"""What the first call costs in an agent's fresh process, beyond the imports.

    python -m bench.first_call

CPU seconds of fresh processes, one after the other: the import of Rustic's core, that of the resolver, and
then the first call and the first stream. A guild starts a process for each of its agents. The answers come
from this process, over a server of its own.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
from functools import partial

from bench import ROOT
from rustic_ai.llm_queue.resolver.testing.reply import answered
from rustic_ai.llm_queue.tasks.call import CompletionCall
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, settle_now, waiting_job

ROUNDS = 7
_ANSWER = answered(CompletionCall(model="m", params={}), "Paris")


def measured(server: ValkeyServer) -> dict[str, float]:
    """The CPU seconds of one fresh process, by what they were spent on."""
    command = [sys.executable, "-m", "support.callers.first_call", server.url]
    process = subprocess.Popen(command, cwd=ROOT / "tests", stdout=subprocess.PIPE, text=True)
    for _ in ("the call", "the stream"):
        job_id = wait_until(partial(waiting_job, server), 60, "the job to be queued")
        assert job_id is not None
        settle_now(server.url, job_id, _ANSWER, OWNER)
    out, _ = process.communicate(timeout=60)
    return {name: value for name, value in json.loads(out).items() if name.endswith("_s")}


def main() -> None:
    """Print a line for each step."""
    with ValkeyServer() as server:
        rounds = [measured(server) for _ in range(ROUNDS)]
    print(f"{ROUNDS} fresh processes, CPU seconds: median (least to most)")
    for name in rounds[0]:
        values = sorted(one[name] for one in rounds)
        middle, least, most = statistics.median(values), values[0], values[-1]
        print(f"  {name.removesuffix('_s'):14} {middle:.3f} ({least:.3f} to {most:.3f})")


if __name__ == "__main__":
    main()
