"""A provider that means harm, or is broken, holds up nobody else."""

import asyncio
import gzip
import json
import os
import socket
import time
from asyncio.selector_events import BaseSelectorEventLoop
from collections.abc import AsyncIterator, Callable
from typing import Any

import litellm
import psutil
import pytest

from rustic_ai.llm_queue.tasks.call import Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.private_hosts import is_private
from rustic_ai.llm_queue.worker.provider.targets.worker_keys import REFUSED_PROVIDERS
from support.providers.provider import ProviderStub, Step
from support.providers.raw_answers import chunk, stream, whole
from support.servers.raw_server import RawServer, head
from support.servers.rogue import RogueServer
from support.workers.attempt_kit import MODELS, Bench, NotedSink
from support.workers.loop_watchdog import loop_watchdog

PROVIDERS = sorted({str(getattr(one, "value", one)) for one in litellm.provider_list} - REFUSED_PROVIDERS)
LIMIT_BYTES = 1_000_000
FLAT_BYTES = 80_000_000


async def _endless() -> AsyncIterator[bytes]:
    yield head()
    while True:
        yield b'{"a": "' + b"x" * 65_536


async def _endless_error() -> AsyncIterator[bytes]:
    yield head(500)
    while True:
        yield b"x" * 65_536


async def _bomb() -> AsyncIterator[bytes]:
    yield head(content_encoding="gzip")
    yield gzip.compress(b" " * 400_000_000, 1)


async def _endless_line() -> AsyncIterator[bytes]:
    yield head(kind="text/event-stream")
    yield b'data: {"choices": [{"delta": {"content": "'
    while True:
        yield b"x" * 65_536


async def _bomb_in_a_stream() -> AsyncIterator[bytes]:
    yield head(kind="text/event-stream", content_encoding="gzip")
    yield gzip.compress(b"data: " + b"x" * 400_000_000, 1)


ANSWERS: dict[str, tuple[Callable[[], AsyncIterator[bytes]], bool]] = {
    "endless": (_endless, False),
    "an endless error": (_endless_error, False),
    "an endless error in a stream": (_endless_error, True),
    "a bomb": (_bomb, False),
    "an endless line": (_endless_line, True),
    "a bomb in a stream": (_bomb_in_a_stream, True),
}


@pytest.mark.parametrize("model", [MODELS["openai"], MODELS["anthropic"], "hosted_vllm/m"])
@pytest.mark.parametrize("case", ANSWERS)
async def test_an_answer_without_end_is_cut_off(bench: Bench, case: str, model: str) -> None:
    respond, streamed = ANSWERS[case]
    on = Bench.over(bench.stub, max_answer_bytes=LIMIT_BYTES)
    memory = psutil.Process().memory_info
    async with RawServer(respond) as server:
        before = memory().rss
        envelope = await on.failure(
            "hello",
            model,
            sink=NotedSink() if streamed else None,
            endpoint=Endpoint.model_validate({"base_url": server.url, "api_key": "sk-of-the-tenant"}),
        )
        assert envelope.kind is ErrorKind.ANSWER_TOO_LARGE
        assert server.requests == 1, "it is not asked for again"
        if "bomb" not in case:
            await asyncio.wait_for(server.hung_up.wait(), 10)
        assert memory().rss - before < FLAT_BYTES


ERRORS: dict[str, str] = {
    "blanks": " " * 60_000,
    "blanks in JSON": json.dumps({"error": {"message": " " * 60_000}}),
    "2 MB of text": "no " * 700_000,
    "2 MB of JSON": json.dumps({"error": {"message": "no " * 700_000}}),
    "nested": '{"error":' * 15_000 + "1" + "}" * 15_000,
    "nested, cut": '{"error":' * 15_000,
    "lists, cut": '{"error":' + "[" * 15_000,
    "prefixes": "litellm.AError: " * 20_000,
    "colons": ", \n" * 200_000 + "Original Response",
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", ["openai", "anthropic", "gemini", "huggingface"])
@pytest.mark.parametrize("case", ERRORS)
async def test_an_error_of_any_form_holds_up_nobody(
    bench: Bench, case: str, name: str, streamed: bool
) -> None:
    bench.stub.plan("err", Step(raw=ERRORS[case], status=400, times=None))
    sink = NotedSink() if streamed else None
    # What is done once in a process is not the error's fault.
    await bench.failure("hello #err", MODELS[name], sink=sink, max_retries=0)
    async with loop_watchdog():
        envelope = await bench.failure("hello #err", MODELS[name], sink=sink, max_retries=0)
    assert envelope.kind is ErrorKind.BAD_REQUEST
    assert envelope.provider_status == 400
    assert len(bench.stub.requests("err")) == 2


async def test_the_watchdog_names_what_holds_the_loop() -> None:
    def spin() -> None:
        until = time.thread_time() + 0.2
        while time.thread_time() < until:
            pass

    async def watched() -> None:
        async with loop_watchdog():
            await asyncio.sleep(0.01)
            spin()
            await asyncio.sleep(0.01)

    with pytest.raises(AssertionError, match="spin"):
        await watched()


DEEP = "[" * 20_000 + "]" * 20_000
DEEP_ANSWERS: dict[str, tuple[str, str]] = {
    "nested": (whole().replace('"42"', DEEP), stream(chunk({"content": "x"}).replace('"x"', DEEP))),
    "many values": ("[" + "1," * 1_500_000 + "1]", stream('{"choices":[' + "1," * 1_500_000 + "1]}")),
}


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("case", DEEP_ANSWERS)
async def test_json_that_no_model_writes_holds_up_nobody(bench: Bench, case: str, streamed: bool) -> None:
    bench.stub.plan("deep", Step(raw=DEEP_ANSWERS[case][streamed], times=None))
    sink = NotedSink() if streamed else None
    await bench.failure("hello #deep", sink=sink, max_retries=0)
    async with loop_watchdog():
        envelope = await bench.failure("hello #deep", sink=sink, max_retries=0)
    assert envelope.kind is ErrorKind.RESPONSE_PROCESSING


@pytest.fixture
def no_network(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Nothing but loopback; the private addresses that were connected to."""
    reached: list[Any] = []
    sock_connect, create = BaseSelectorEventLoop.sock_connect, socket.create_connection
    lookup = socket.getaddrinfo

    def note(address: Any) -> None:
        if is_private(str(address[0])):
            reached.append(address)

    async def noted(self: Any, sock: socket.socket, address: Any) -> Any:
        note(address)
        return await sock_connect(self, sock, address)

    def noted_create(address: Any, *args: Any, **named: Any) -> Any:
        note(address)
        return create(address, *args, **named)

    def local(host: Any, *args: Any, **named: Any) -> Any:
        if host not in ("127.0.0.1", "localhost", "::1", "0.0.0.0", None):
            raise socket.gaierror(socket.EAI_NONAME, "no network")
        return lookup(host, *args, **named)

    monkeypatch.setattr(BaseSelectorEventLoop, "sock_connect", noted)
    monkeypatch.setattr(socket, "create_connection", noted_create)
    monkeypatch.setattr(socket, "getaddrinfo", local)
    return reached


async def _of_all(bench: Bench, **how: Any) -> dict[str, Any]:
    room = asyncio.Semaphore(8)

    async def ask(name: str) -> Any:
        async with room:
            try:
                await bench.run("hello", f"{name}/some-model", max_retries=0, timeout_s=20, **how)
            except Exception as error:
                return error
            return None

    return dict(zip(PROVIDERS, await asyncio.gather(*map(ask, PROVIDERS)), strict=True))


@pytest.mark.timeout(300)
async def test_no_providers_own_default_leads_inside(
    provider: ProviderStub, monkeypatch: pytest.MonkeyPatch, no_network: list[Any]
) -> None:
    for name in os.environ:
        if name.endswith(("_BASE", "_BASE_URL", "_URL", "_HOST", "_ENDPOINT")):
            monkeypatch.delenv(name)
    bench = Bench.over(provider, allowed_hosts="")
    no_network.clear()
    ends = await _of_all(bench, endpoint=Endpoint.model_validate({"api_key": "sk-of-the-tenant"}))
    assert no_network == []
    for name in ("ollama", "ollama_chat", "llamafile", "lemonade", "docker_model_runner", "langflow",
                 "langgraph"):  # fmt: skip
        assert ends[name].envelope.kind is ErrorKind.ENDPOINT_NOT_ALLOWED, (name, ends[name])


async def test_an_address_of_the_operators_is_reached(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_BASE", bench.stub.url)
    on = Bench.over(bench.stub, allowed_hosts="")
    envelope = await on.failure("hello", "ollama/x", max_retries=0)
    assert envelope.kind is not ErrorKind.ENDPOINT_NOT_ALLOWED
    assert bench.stub.requests()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("streamed", [False, True])
async def test_no_provider_follows_a_redirect(bench: Bench, streamed: bool, no_network: list[Any]) -> None:
    with RogueServer() as inside, RogueServer(redirect_to=f"{inside.url}/inside") as rogue:
        await _of_all(
            bench,
            sink=NotedSink() if streamed else None,
            endpoint=Endpoint.model_validate({"api_key": "sk-of-the-tenant", "base_url": rogue.url}),
        )
        assert len(rogue.received) > 50, "most providers were asked"
        assert inside.received == []
