"""What sealing adds to a call with a request of 10 kB.

    python -m bench.sealing

CPU time of the agent's process and of the worker's for calls that go all the way, through LiteLLM to a
provider that answers at once: first of a worker without a sealing key, then of one with it, several times
in turn. Wall time on a shared machine says more about its neighbours.
"""

from __future__ import annotations

import os
import statistics
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

from bench import ROOT
from bench.lab import cpu_s_of
from rustic_ai.llm_queue.resolver import QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Purpose, Sealer, make_key
from support.providers.provider import ProviderStub
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

PROMPT = "a prompt of ten kB " * 530
ROUNDS, CALLS = 11, 200


@contextmanager
def contender(provider: ProviderStub, sealing_keys: str) -> Iterator[tuple[QueueLLM, WorkerProcess]]:
    """An agent's LLM and the worker that answers it, with a Redis of their own."""
    with ValkeyServer() as server:
        env = {"LLM_QUEUE_REDIS_URL": server.url, "LLM_QUEUE_SEALING_KEYS": sealing_keys}
        os.environ.update(env)
        llm = QueueLLMResolver(model="openai/gpt-4o-mini", timeout=60).resolve("o", "g", "a")
        with WorkerProcess({**env, **provider.env()}, cwd=ROOT) as worker:
            llm.completion(ChatCompletionRequest(messages=[UserMessage(content="warm up")]))
            yield llm, worker


def cpu_s_a_call(llm: QueueLLM, worker: WorkerProcess) -> float:
    """CPU seconds that agent and worker take for a call, on average of `CALLS`."""
    request = ChatCompletionRequest(messages=[UserMessage(content=PROMPT)])
    pids = [os.getpid(), worker.pid]
    before = cpu_s_of(pids[:1]) + cpu_s_of(pids[1:])
    for handle in [llm.submit(request) for _ in range(CALLS)]:
        handle.result()
    return (cpu_s_of(pids[:1]) + cpu_s_of(pids[1:]) - before) / CALLS


def bare_cost_s() -> float:
    """CPU seconds to seal and to open the request, and nothing else."""
    sealer, job_id, times = Sealer(KeyRing.parse(make_key())), str(uuid.uuid4()), []
    owner = Owner(org="o", guild="g", agent="a")
    for _ in range(2_000):
        began = time.process_time()
        sealed = sealer.seal(PROMPT, purpose=Purpose.REQUEST, job_id=job_id, owner=owner)
        sealer.open(sealed, purpose=Purpose.REQUEST, job_id=job_id, owner=owner)
        times.append(time.process_time() - began)
    return statistics.median(times)


def main() -> None:
    """Print CPU a call, unsealed and sealed, and their ratio."""
    with (
        ProviderStub() as provider,
        contender(provider, "") as plain,
        contender(provider, make_key()) as sealed,
    ):
        rounds = [(cpu_s_a_call(*plain), cpu_s_a_call(*sealed)) for _ in range(ROUNDS)]
        Engine.close_shared()
    plain_s, sealed_s = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"request of {len(PROMPT):,} bytes, {ROUNDS} rounds of {CALLS} calls, medians of CPU time")
    print(f"unsealed  {plain_s * 1e3:6.2f} ms a call")
    print(f"sealed    {sealed_s * 1e3:6.2f} ms a call   x{sealed_s / plain_s:.3f}")
    print(f"seal and open of the request alone: {bare_cost_s() * 1e6:.0f} us")


if __name__ == "__main__":
    main()
