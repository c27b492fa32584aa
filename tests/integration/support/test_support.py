"""The parts that tests stand on do what they say."""

import asyncio
import functools
import json
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import aiohttp
import httpx
import psutil
import pytest
import redis

from support.documents.readme import ROOT
from support.processes.process import ChildProcess
from support.processes.wait import WaitTimeoutError, async_wait_until, wait_until
from support.providers.llmock_process import Fail, LlmockProcess, Match, Reply
from support.providers.provider import ProviderStub, Step, ToolCall, derived_answer
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

TESTS = Path(__file__).parents[2]
THROWAWAY_APP = """
import os, time
from celery import Celery

app = Celery("throwaway", broker=os.environ["BROKER"], backend=os.environ["BROKER"])
app.conf.worker_pool = "solo"


@app.task(name="throwaway.double")
def double(number):
    return number * 2
"""


@pytest.fixture
def throwaway(tmp_path: Path, redis_url: str) -> dict[str, str | None]:
    (tmp_path / "throwaway.py").write_text(THROWAWAY_APP)
    return {"BROKER": redis_url, "PYTHONPATH": str(tmp_path)}


def test_wait_until_returns_the_value_and_names_what_it_waited_for() -> None:
    answers = iter([None, "", "there"])
    assert wait_until(lambda: next(answers), 5, "an answer") == "there"
    with pytest.raises(WaitTimeoutError, match=r"0\.1 s for the kettle; last saw 'cold'|last saw ''"):
        wait_until(lambda: "", 0.1, "the kettle")


async def test_async_wait_until_takes_async_predicates_and_leaves_the_loop_free() -> None:
    event = asyncio.Event()
    asyncio.get_running_loop().call_later(0.05, event.set)

    async def is_set() -> bool:
        return event.is_set()

    assert await async_wait_until(is_set, 5, "the event")
    with pytest.raises(WaitTimeoutError):
        await async_wait_until(lambda: False, 0.05, "nothing")


def test_a_killed_server_comes_back_with_what_it_had_acknowledged(own_valkey: ValkeyServer) -> None:
    with own_valkey.client() as client:
        client.set("kept", "yes")
        own_valkey.kill()
        with pytest.raises(redis.ConnectionError):
            client.ping()
        own_valkey.restart()
        assert client.get("kept") == "yes"


def test_a_frozen_server_keeps_connections_and_answers_after_the_thaw(own_valkey: ValkeyServer) -> None:
    with own_valkey.client(socket_timeout=0.2, retry=None) as client:
        client.ping()
        own_valkey.freeze()
        with pytest.raises(redis.TimeoutError):
            client.ping()
        own_valkey.thaw()
        assert client.ping()


def test_cut_connections_cuts_all_but_its_own(own_valkey: ValkeyServer) -> None:
    with own_valkey.client(client_name="victim") as client:
        client.ping()
        assert [one["name"] for one in own_valkey.connections()] == ["victim"]
        assert own_valkey.cut_connections() >= 1
        wait_until(lambda: not own_valkey.connections(), 5, "no connection to be left")


def test_a_flush_leaves_what_a_running_worker_needs(own_valkey: ValkeyServer) -> None:
    with own_valkey.client() as client:
        client.set("work", 1)
        client.sadd("_kombu.binding.llm", "x")
        client.function_load("#!lua name=kept\nredis.register_function('kept', function() return 1 end)")
        own_valkey.flush()
        assert client.keys() == ["_kombu.binding.llm"]
        assert client.fcall("kept", 0) == 1


def test_server_options_are_in_force() -> None:
    acl = ["user default off", "user agent on >secret ~llmq:* &llmq:* +@all -@dangerous"]
    server = ValkeyServer(
        acl=acl,
        config={"timeout": "77"},
        maxmemory="32mb",
        client_output_buffer_limit="pubsub 64kb 32kb 5",
    )
    with server, server.client() as admin:
        assert admin.config_get("maxmemory") == {"maxmemory": str(32 << 20)}
        assert "pubsub 65536 32768 5" in admin.config_get("client-output-buffer-limit").popitem()[1]
        assert admin.config_get("timeout") == {"timeout": "77"}
        agent = redis.Redis.from_url(server.url_for("agent", "secret"))
        agent.set("llmq:x", 1)
        with pytest.raises(redis.exceptions.NoPermissionError):
            agent.set("other", 1)
        with pytest.raises(redis.exceptions.AuthenticationError):
            redis.Redis.from_url(server.url).ping()
        assert not admin.exists("other")


def test_a_server_that_cannot_start_says_why() -> None:
    server = ValkeyServer(config={"no-such-directive": "1"})
    with pytest.raises(AssertionError, match="Bad directive"):
        server.start()
    server.close()


@pytest.mark.leaves_keys("unacked*", reason="plain Celery keeps what a killed worker had taken")
def test_a_worker_runs_tasks_freezes_and_dies(
    start_fresh_worker: Callable[..., WorkerProcess], throwaway: dict[str, str | None], valkey: ValkeyServer
) -> None:
    from celery import Celery

    worker = start_fresh_worker(throwaway, app="throwaway", args=["--without-gossip", "--without-mingle"])
    app = Celery(broker=valkey.url, backend=valkey.url)
    assert app.send_task("throwaway.double", [21]).get(timeout=10) == 42
    assert worker.nodename in worker.logs()
    assert worker.rss_bytes > 1 << 20
    assert worker.threads >= 1
    worker.freeze()
    late = app.send_task("throwaway.double", [4])
    assert not late.ready()
    worker.thaw()
    assert late.get(timeout=10) == 8
    worker.kill()
    assert worker.exit_code == -signal.SIGKILL
    worker.start()
    assert worker.stop(20) == 0
    app.close()


def test_a_worker_that_cannot_start_shows_its_log(start_fresh_worker: Callable[..., WorkerProcess]) -> None:
    with pytest.raises(AssertionError, match="no_such_app"):
        start_fresh_worker(app="no_such_app")


def test_a_child_is_killed_with_all_it_started(tmp_path: Path) -> None:
    code = (
        "import subprocess, time; subprocess.Popen(['sleep', '99']); print('up', flush=True); time.sleep(99)"
    )
    child = ChildProcess([sys.executable, "-c", code], log_path=tmp_path / "child.log")
    child.start()
    child.wait_for_log("up", 10)
    (grandchild,) = child.children
    child.kill()
    wait_until(lambda: _is_gone(grandchild), 5, "the grandchild's death")


def test_a_child_heeds_ctrl_c(tmp_path: Path) -> None:
    code = "import time; print('up', flush=True); time.sleep(99)"
    child = ChildProcess([sys.executable, "-c", code], log_path=tmp_path / "child.log")
    with child:
        child.wait_for_log("up", 10)
        child.send_signal(signal.SIGINT)
        child.wait()
    assert "KeyboardInterrupt" in child.logs()


def test_ctrl_c_is_heeded_in_a_suite_that_was_started_with_it_ignored() -> None:
    """As `nohup` and a shell's `&` start it."""
    tests = (
        f"{__file__}::test_a_child_heeds_ctrl_c",
        str(ROOT / "tests" / "resolver" / "test_memory_queue.py") + "::test_ctrl_c_takes_the_job_along",
    )
    pytest_ = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *tests]
    ran = subprocess.run(
        ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *pytest_],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert "2 passed" in ran.stdout, ran.stdout + ran.stderr


def test_children_and_files_go_when_the_session_is_killed_or_ends(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from support.processes.process import ChildProcess; "
        "from support.processes.scratch import scratch_dir; place = scratch_dir('x'); "
        "child = ChildProcess(['sleep', '99'], log_path=place / 'log'); child.start(); "
        "print(child.pid, place, flush=True); sys.argv[1] == 'kill' and os.kill(os.getpid(), 9)"
    )
    for ending in ("kill", "end"):
        command = [sys.executable, "-c", code, ending]
        session = subprocess.run(command, capture_output=True, text=True, cwd=TESTS, timeout=30, check=False)
        pid, place = session.stdout.split()
        wait_until(functools.partial(_is_gone, int(pid)), 10, f"the child's end after {ending}")
        assert Path(place).exists() == (ending == "kill")
        shutil.rmtree(Path(place).parent, ignore_errors=True)


def _is_gone(pid: int) -> bool:
    # A container's first process may be slow to reap, or never reap, what is orphaned.
    return not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE


def ask(stub: ProviderStub, prompt: str, **fields: object) -> httpx.Response:
    body = {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": prompt}], **fields}
    url = stub.base_url() + "/chat/completions"
    return httpx.post(url, json=body, headers={"x-mark": "here"}, timeout=10)


def deltas(response: httpx.Response) -> list[dict[str, Any]]:
    lines = [line for line in response.text.split("\n") if line.startswith("data: {")]
    return [choice["delta"] for line in lines for choice in json.loads(line[6:])["choices"]]


def streamed_text(response: httpx.Response) -> str:
    return "".join(delta.get("content") or "" for delta in deltas(response))


def test_the_provider_plays_a_plan_by_tag_and_keeps_a_record(provider: ProviderStub) -> None:
    provider.plan("q1", Step(status=429, retry_after_s=1.5), Step(text="forty-two"))
    provider.plan("q1", Step(status=503), model="other")
    limited, answered, healthy = (ask(provider, "what? #q1") for _ in range(3))
    assert (limited.status_code, limited.headers["retry-after"]) == (429, "1.5")
    assert answered.json()["choices"][0]["message"]["content"] == "forty-two"
    assert healthy.json()["choices"][0]["message"]["content"] == derived_answer("what? #q1")
    assert ask(provider, "what? #q1", model="other").status_code == 503
    ask(provider, "something else")
    seen = provider.requests("q1")
    assert [one.status for one in seen] == [429, 200, 200, 503]
    assert seen[1].text == "forty-two"
    assert seen[0].header("X-Mark") == "here"
    assert seen[0].body["messages"][0]["content"] == "what? #q1"
    assert all(one.completed and not one.client_closed for one in seen)
    assert len(provider.requests()) == 5


def test_a_stream_carries_the_text_on_record(provider: ProviderStub) -> None:
    provider.plan("s", Step(words=50, chunk_chars=3))
    response = ask(provider, "tell #s", stream=True, stream_options={"include_usage": True})
    assert streamed_text(response) == derived_answer("tell #s", 50) == provider.requests("s")[0].text
    assert response.text.endswith("data: [DONE]\n\n")
    assert '"finish_reason":"stop"' in response.text
    assert '"usage":{"prompt_tokens"' in response.text


@pytest.mark.parametrize("fault", ["cut", "reset", "refuse"])
@pytest.mark.parametrize("stream", [True, False])
def test_a_broken_connection_reaches_the_client(provider: ProviderStub, fault: str, stream: bool) -> None:
    provider.plan("b", Step.model_validate({"fault": fault}))
    with pytest.raises(httpx.TransportError):
        ask(provider, "tell #b", stream=stream)
    (seen,) = provider.wait_for(lambda all_: not all_[0].open, "b")
    assert seen.fault == fault
    assert not seen.completed
    assert not seen.client_closed


def test_stream_faults_end_as_planned(provider: ProviderStub) -> None:
    provider.plan("early", Step(fault="no_finish", after_chunks=2))
    early = ask(provider, "tell #early", stream=True)
    assert streamed_text(early) == provider.requests("early")[0].text != derived_answer("tell #early")
    assert 'finish_reason":"stop' not in early.text
    assert "[DONE]" not in early.text

    provider.plan("unreasoned", Step(fault="no_reason"))
    unreasoned = ask(provider, "tell #unreasoned", stream=True)
    assert streamed_text(unreasoned) == derived_answer("tell #unreasoned")
    assert 'finish_reason":"stop' not in unreasoned.text
    assert "[DONE]" in unreasoned.text

    provider.plan("garbled", Step(fault="bad_json", after_chunks=1))
    with pytest.raises(json.JSONDecodeError):
        streamed_text(ask(provider, "tell #garbled", stream=True))

    provider.plan("error", Step(fault="error_event", message="overloaded"))
    assert "overloaded" in ask(provider, "tell #error", stream=True).text
    found = {finding.code for finding in provider.verdict().findings}
    assert {"truncated_stream_accepted", "malformed_chunk_ignored", "gave_up"} <= found


def test_a_client_that_hangs_up_is_on_record(provider: ProviderStub) -> None:
    provider.plan("slow", Step(delay_s=60))
    provider.plan("dripping", Step(chunk_delay_s=60))
    for tag, stream in (("slow", False), ("dripping", True)):
        before = time.monotonic()
        body = {"model": "m", "messages": [{"role": "user", "content": f"#{tag}"}], "stream": stream}
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(provider.base_url() + "/chat/completions", json=body, timeout=0.3)
        (seen,) = provider.wait_for(lambda all_: not all_[0].open, tag)
        assert seen.client_closed
        assert not seen.completed
        assert before < (seen.ended_at or 0) < time.monotonic()


def test_a_held_answer_waits_for_its_release(provider: ProviderStub) -> None:
    provider.plan("held", Step(hold=True, text="at last"))
    with ThreadPoolExecutor(1) as pool:
        pending = pool.submit(ask, provider, "#held")
        provider.wait_for_requests(1, "held")
        assert provider.open_calls == 1
        provider.release("held")
        assert "at last" in pending.result(10).text


def test_tool_calls_come_in_pieces(provider: ProviderStub) -> None:
    calls = (ToolCall(name="weather", arguments='{"city": "Zürich"}'), ToolCall(name="clock", arguments="{}"))
    provider.plan("tools", Step(tool_calls=calls))
    response = ask(provider, "#tools", stream=True)
    arguments = ["", ""]
    for call in (call for delta in deltas(response) for call in delta.get("tool_calls", [])):
        arguments[call["index"]] += call["function"].get("arguments", "")
    assert arguments == ['{"city": "Zürich"}', "{}"]
    assert '"finish_reason":"tool_calls"' in response.text


async def test_the_provider_holds_thousands_of_calls_open(provider: ProviderStub) -> None:
    calls = 5_000
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    provider.plan("crowd", Step(hold=True, words=3, times=None))
    body = {"model": "m", "messages": [{"role": "user", "content": "#crowd"}]}
    url = provider.base_url() + "/chat/completions"
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(60)) as session:

        async def call() -> int:
            async with session.post(url, json=body) as response:
                await response.read()
                return response.status

        async with asyncio.TaskGroup() as group:
            pending = [group.create_task(call()) for _ in range(calls)]
            await async_wait_until(lambda: provider.open_calls == calls, 60, "all calls to be open")
            assert provider.process.rss_bytes < 500 << 20
            provider.release("crowd")
    assert {one.result() for one in pending} == {200}
    assert provider.stats()["max_open"] == calls
    assert len(provider.requests("crowd")) == calls


@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "cohere"])
def test_llmock_runs_apart_and_judges_its_client(llmock_process: LlmockProcess, name: str) -> None:
    paths = {
        "openai": ("/chat/completions", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
        "anthropic": (
            "/v1/messages",
            {"model": "m", "max_tokens": 9, "messages": [{"role": "user", "content": "hi"}]},
        ),
        "gemini": ("/models/m:generateContent", {"contents": [{"role": "user", "parts": [{"text": "hi"}]}]}),
        "cohere": ("", {"model": "m", "messages": [{"role": "user", "content": "hi"}]}),
    }
    path, body = paths[name]
    llmock_process.add(Fail(429, retry_after=30, match=Match(provider=name)), Reply(text="scripted"))
    for status in (429, 200):
        assert httpx.post(llmock_process.base_url(name) + path, json=body).status_code == status
    assert [one.status for one in llmock_process.requests] == [429, 200]
    assert [one.code for one in llmock_process.verdict().errors] == ["retry_after_ignored"]
    with pytest.raises(AssertionError, match="retry_after_ignored"):
        llmock_process.assert_clean()
