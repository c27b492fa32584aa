"""What the first call in a fresh process costs: no import, on no event loop."""

import json
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver.testing.reply import answered
from rustic_ai.llm_queue.tasks.call import CompletionCall
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import OWNER, settle_now, waiting_job

#: No Celery worker takes the wake-ups.
pytestmark = pytest.mark.leaves_keys("llm*")


def test_nothing_is_imported_during_the_first_call_and_the_first_stream(
    valkey: ValkeyServer, redis_url: str
) -> None:
    command = [sys.executable, "-m", "support.callers.first_call", redis_url]
    process = subprocess.Popen(command, cwd=Path(__file__).parents[1], stdout=subprocess.PIPE, text=True)
    for _ in range(2):
        job_id = wait_until(partial(waiting_job, valkey), 60, "the job to be queued")
        assert job_id is not None
        settle_now(redis_url, job_id, answered(CompletionCall(model="m", params={}), "Paris"), OWNER)
    out, _ = process.communicate(timeout=60)
    assert json.loads(out)["imported"] == []
