"""`llm-queue ask`: one question from the shell, and what happens when it goes wrong."""

import importlib.metadata
import json
import os
import signal
import sys
from pathlib import Path

import pytest

from support.processes.command import LlmQueue, command_process
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.usefixtures("worker")
MINI = "openai/gpt-4o-mini"


def test_an_answer_is_streamed_and_what_it_took_is_said_beside_it(
    llm_queue: LlmQueue, provider: ProviderStub
) -> None:
    provider.plan("q", Step(text="forty-two, of course", prompt_tokens=1000, completion_tokens=500))
    ran = llm_queue("ask", "What is it? #q", "-m", MINI, "--system", "Be brief.")
    assert (ran.exit_code, ran.out) == (0, "forty-two, of course\n")
    assert "1000+500 tokens, 0.00045 USD" in ran.err
    (request,) = provider.requests("q")
    assert request.stream
    assert [one["role"] for one in request.body["messages"]] == ["system", "user"]
    assert "temperature" not in request.body, "nothing that was not asked for"


def test_json_is_the_whole_answer(llm_queue: LlmQueue, provider: ProviderStub) -> None:
    provider.plan("q", Step(text="forty-two"))
    answer = json.loads(llm_queue("ask", "#q", "-m", MINI, "--json").out)
    assert answer["choices"][0]["message"]["content"] == "forty-two"
    assert answer["cost_usd"] > 0
    assert [one["status"] for one in answer["attempts"]] == ["ok"]


def test_failures_are_a_line_and_an_exit_code(llm_queue: LlmQueue, provider: ProviderStub) -> None:
    provider.plan("key", provider.bad_key("openai"))
    failed = llm_queue("ask", "#key", "-m", MINI)
    assert failed.exit_code == 1
    assert failed.err.startswith("Error: ")
    assert len(failed.err.splitlines()) == 1
    assert llm_queue("ask", "  ", "-m", MINI).exit_code == 2
    assert llm_queue("ask", "hello").exit_code == 2, "no model"
    assert llm_queue("ask", "hello", "-m", MINI, "--temperature", "9").exit_code == 2
    assert llm_queue("ask", "hello", "-m", MINI, "--priority", "5").exit_code == 2
    assert "'interactive', 'normal', 'low', 'batch'" in llm_queue("ask", "x", "--priority", "soon").err


@pytest.mark.parametrize(
    ("variable", "value"), [("LLM_QUEUE_REDIS_URL", "nonsense"), ("LLM_QUEUE_RESULT_TTL", "never")]
)
def test_a_wrong_setting_ends_it_with_3(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    ran = llm_queue("ask", "hello", "-m", MINI)
    assert (ran.exit_code, variable in ran.err, "Usage" in ran.err) == (3, True, False)


def test_ctrl_c_cancels_the_job(valkey: ValkeyServer, provider: ProviderStub, tmp_path: Path) -> None:
    provider.plan("q", Step(text="never all of it", chunk_delay_s=30))
    env = {**os.environ, "LLM_QUEUE_REDIS_URL": valkey.url}
    asking = command_process("ask", "#q", "-m", MINI, env=env, log_path=tmp_path / "ask.log")
    asking.start()
    try:
        provider.wait_for_requests(1, "q", timeout_s=60)
        asking.send_signal(signal.SIGINT)
        assert asking.wait() == 130
    finally:
        asking.kill()
    (request,) = provider.wait_for(lambda seen: not seen[0].open, "q")
    assert request.client_closed


def test_a_place_without_the_resolver_says_so(llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> None:
    names = set(importlib.metadata.entry_points(group="rustic_ai.llm_queue.commands").names)
    assert names >= {"ask", "batch"}
    for module in ("", ".ask"):
        monkeypatch.setitem(sys.modules, f"rustic_ai.llm_queue.resolver.cli{module}", None)
    ran = llm_queue("ask", "hello", "-m", MINI)
    assert ran.exit_code == 1
    assert "pip install 'rusticai-llm-queue[resolver]'" in ran.err
    assert "ask" in llm_queue("--help").out
