"""The line a worker's log has for each job, in the form for people."""

import re

import pytest

from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.workers.worker import WorkerProcess


@pytest.mark.usefixtures("provider")
def test_a_job_is_one_line_for_people(worker: WorkerProcess, llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(prompt_tokens=1000, completion_tokens=500))
    response = llm().completion(ask("#q"))
    lines = wait_until(
        lambda: [line for line in worker.logs().splitlines() if str(response.job_id) in line],
        what="the job's line",
    )
    assert len(lines) == 1, "one line a job"
    assert re.fullmatch(
        rf"\[.*: INFO/MainProcess\] Job {response.job_id} of acme/support/helper answered: "
        r"openai/gpt-4o-mini, \d+\.\d{3} s after \d+\.\d{3} s of waiting, attempts 1, 1000\+500 tokens, "
        r"0\.00045 USD",
        lines[0],
    )
