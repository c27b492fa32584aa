"""What a caller's process leaves behind when it dies: nobody pays for answers that nobody awaits."""

from collections.abc import Callable

import pytest

from rustic_ai.llm_queue.resolver import JobState
from support.callers.llm import MakeLLM
from support.callers.waiting_process import waiting_process
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

#: From the death of a process to the end of its jobs.
MOST_S = 30


@pytest.mark.timeout(240)
def test_a_killed_process_takes_the_jobs_along_that_it_waited_for(
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    start_worker: Callable[..., WorkerProcess],
    llm: MakeLLM,
) -> None:
    provider.plan("held", Step(text="late", hold=True, times=None))
    start_worker({"LLM_QUEUE_REDIS_URL": own_valkey.url, **provider.env()})
    with waiting_process(own_valkey.url, "#held") as (process, jobs):
        wait_until(lambda: provider.open_calls == 5, 60, "all five calls at the provider")
        process.kill()
        wait_until(lambda: provider.open_calls == 3, MOST_S, "the two calls to be closed")
    asker = llm(redis_url=own_valkey.url)
    assert asker.job(jobs["streamed"][0]).status() is JobState.CANCELLED
    provider.release("held")
    for job_id in jobs["submitted"] + jobs["detached"]:
        assert asker.job(job_id).result().choices[0].message.content == "late"
