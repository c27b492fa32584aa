"""LiteLLM as a plain caller of providers: silent, frugal, and with an answer of its own to nothing."""

import asyncio
import copy
import gc
import json
import logging
import os
import subprocess
import sys
import threading
from typing import Any

import aiohttp
import pytest

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.worker.attempts.answer import AttemptsFailed
from rustic_ai.llm_queue.worker.attempts.attempts import attempt_all
from rustic_ai.llm_queue.worker.attempts.log import AttemptLog
from support.processes.wait import async_wait_until
from support.providers.provider import API_KEY, Step
from support.workers.attempt_kit import MODELS, Bench, NotedJournal, NotedSink

PROMPT = "canary-of-the-prompt"
ANSWER = "canary-of-the-answer"


@pytest.mark.parametrize("name", MODELS)
async def test_nothing_is_printed_or_logged_of_keys_prompts_and_answers(
    bench: Bench, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    wrong = f"you said {PROMPT}"
    steps = (Step(status=500, message=wrong), Step(fault="bad_json", text=ANSWER), Step(text=ANSWER))
    for streamed in (False, True):
        bench.stub.plan("*", *steps)
        await bench.run(PROMPT, MODELS[name], sink=NotedSink() if streamed else None)
    bench.stub.plan("*", Step(status=400, message=wrong))
    with pytest.raises(AttemptsFailed) as failed:
        await bench.run(PROMPT, MODELS[name])
    shown = capfd.readouterr()
    told = "\n".join([caplog.text, shown.out, shown.err, repr(failed.value)])
    for canary in (PROMPT, ANSWER, API_KEY):
        assert canary not in told


@pytest.mark.parametrize("name", MODELS)
async def test_a_provider_is_one_client_whatever_the_time_left(bench: Bench, name: str) -> None:
    def sessions() -> int:
        return sum(isinstance(one, aiohttp.ClientSession) for one in gc.get_objects())

    await bench.run("hello", MODELS[name], timeout_s=11)
    before = sessions()
    for timeout_s in (12, 13.5, 14):
        await bench.run("hello", MODELS[name], timeout_s=timeout_s)
    assert sessions() == before


async def test_calls_in_flight_are_not_held_back_by_connections_or_threads(bench: Bench) -> None:
    bench.stub.plan("*", Step(hold=True, times=None))
    await asyncio.sleep(0)
    jobs = [asyncio.create_task(bench.run("hello #many", timeout_s=100)) for _ in range(600)]
    try:
        # 500 connections to a host is where LiteLLM stops by default.
        await async_wait_until(lambda: bench.stub.open_calls == 600, 60, "600 calls at once")
        threads = [one.name for one in threading.enumerate() if one.name.startswith("asyncio_")]
        assert len(threads) <= 32
    finally:
        for job in jobs:
            job.cancel()
        await asyncio.gather(*jobs, return_exceptions=True)


TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "parameters": {
            "$schema": "http://json-schema.org/draft-07/schema#",
            "type": "object",
            "additionalProperties": False,
            "properties": {"city": {"type": "string", "default": "Bern"}},
        },
    },
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", MODELS)
async def test_what_the_caller_wrote_is_left_as_it_is(bench: Bench, name: str, streamed: bool) -> None:
    params: dict[str, Any] = {
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "text", "text": "Weather?"}]},
            {
                "role": "assistant",
                "content": None,
                "tool_calls": [
                    {
                        "id": "c1",
                        "type": "function",
                        "function": {"name": "weather", "arguments": '{"city":"Bern"}'},
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
        ],
        "tools": [TOOL],
        "stop": ["END"],
    }
    call = CompletionCall(model=MODELS[name], params=copy.deepcopy(params))
    await attempt_all(
        call,
        log=AttemptLog(epoch=1, begun=1),
        deadline_s=asyncio.get_running_loop().time() + 30,
        provider=bench.provider,
        settings=bench.settings,
        journal=NotedJournal(),
        sink=NotedSink() if streamed else None,
        org="org",
    )
    assert call.params == params


async def test_a_parameter_the_model_does_not_know_is_left_out(bench: Bench) -> None:
    await bench.run("hello", MODELS["anthropic"], frequency_penalty=0.5, temperature=0.25)
    (request,) = bench.stub.requests()
    assert request.body["temperature"] == 0.25
    assert "frequency_penalty" not in json.dumps(request.body)


def test_its_prices_are_those_in_the_package_however_it_comes_to_be_imported() -> None:
    script = (
        "import rustic_ai.llm_queue.worker.provider.provider\n"
        "from litellm.litellm_core_utils.get_model_cost_map import get_model_cost_map_source_info\n"
        "print(get_model_cost_map_source_info())\n"
    )
    # The tests' own process has the variables from before.
    env = {name: value for name, value in os.environ.items() if not name.startswith("LITELLM_")}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=True)
    assert "'is_env_forced': True" in done.stdout, "nothing was fetched"


def test_its_limits_stand_though_the_environment_was_changed_after_its_import() -> None:
    script = (
        "import os\n"
        "import rustic_ai.llm_queue.worker.provider.provider\n"
        "from rustic_ai.llm_queue.worker.provider.litellm_api.environment import MOST_CONNECTIONS\n"
        "from rustic_ai.llm_queue.worker.provider.litellm_api.setup import load_litellm\n"
        "from rustic_ai.llm_queue.worker.settings import WorkerSettings\n"
        "for name in [name for name in os.environ if name.startswith('AIOHTTP_')]:\n"
        "    del os.environ[name]\n"
        "load_litellm(WorkerSettings())\n"
        "from litellm.constants import AIOHTTP_CONNECTOR_LIMIT\n"
        "assert AIOHTTP_CONNECTOR_LIMIT == MOST_CONNECTIONS\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True)
