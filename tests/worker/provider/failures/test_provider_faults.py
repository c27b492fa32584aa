"""What each provider's failures are called, and that each costs exactly the POSTs it may."""

import asyncio
import os
from typing import Any
from urllib.parse import urlsplit

import pytest

from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content

STATUSES = {
    400: "bad_request",
    401: "authentication",
    403: "permission_denied",
    404: "not_found",
    408: "timeout",
    409: "conflict",
    422: "unprocessable",
    429: "rate_limit",
    500: "internal_server",
    502: "internal_server",
    503: "internal_server",
    504: "timeout",
    529: "internal_server",
}
#: How a broken stream fails, and how the same fault fails an answer that is not streamed.
FAULTS: dict[str, tuple[str, str]] = {
    "refuse": ("connection", "connection"),
    "abort": ("connection", "connection"),
    "cut": ("connection", "connection"),
    "reset": ("connection", "connection"),
    "bad_json": ("response_processing", "response_processing"),
    "no_finish": ("response_processing", "ok"),
    "no_reason": ("response_processing", "ok"),
    "error_event": ("internal_server", "ok"),
    "stall": ("stream_idle", "ok"),
}


async def _all_providers(bench: Bench, step: Step, *, streamed: bool) -> dict[str, tuple[str, int, bool]]:
    """Of each provider: how the first attempt ended, how many POSTs it saw, whether the text is its own."""

    async def ask(name: str) -> tuple[str, int, bool]:
        bench.stub.plan(name, step, provider=name)
        sink = NotedSink() if streamed else None
        try:
            answer = await bench.run(f"hello #{name}", MODELS[name], sink=sink)
        except Exception as failed:
            attempts: Any = getattr(failed, "attempts", ())
            return str(attempts[0].error), len(bench.stub.requests(name)), True
        requests = bench.stub.requests(name)
        text = requests[-1].text
        same = content(answer) == text and (sink is None or sink.text() == text)
        first = answer.attempts[0]
        return str(first.error or first.status), len(requests), same

    results = await asyncio.gather(*(ask(name) for name in MODELS))
    return dict(zip(MODELS, results, strict=True))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("status", STATUSES)
async def test_a_status_has_its_name_at_every_provider(bench: Bench, status: int, streamed: bool) -> None:
    kind = STATUSES[status]
    retried = kind in ("timeout", "conflict", "rate_limit", "internal_server")
    ends = await _all_providers(bench, Step(status=status), streamed=streamed)
    assert ends == dict.fromkeys(MODELS, (kind, 2 if retried else 1, True))


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("fault", FAULTS)
async def test_half_an_answer_is_no_answer(bench: Bench, fault: Any, streamed: bool) -> None:
    kind = FAULTS[fault][0 if streamed else 1]
    ends = await _all_providers(bench, Step(fault=fault, stall_s=5), streamed=streamed)
    assert ends == dict.fromkeys(MODELS, (kind, 1 if kind == "ok" else 2, True))
    bench.stub.assert_clean()


@pytest.mark.parametrize("name", MODELS)
async def test_a_restart_is_told_where_chunks_had_gone_out(bench: Bench, name: str) -> None:
    bench.stub.plan("again", Step(fault="cut", after_chunks=3), Step(status=500))
    sink = NotedSink()
    answer = await bench.run("hello #again", MODELS[name], sink=sink)
    assert sink.restarts == [("connection", MODELS[name])]
    assert sink.text() == content(answer) == bench.stub.requests("again")[-1].text


async def test_no_restart_where_nothing_had_gone_out(bench: Bench) -> None:
    bench.stub.plan("early", Step(status=500), Step(fault="refuse"))
    sink = NotedSink()
    await bench.run("hello #early", sink=sink)
    assert sink.restarts == []


async def test_a_fallback_after_the_first_chunk_names_its_model(bench: Bench) -> None:
    bench.stub.plan("moved", Step(fault="cut", times=None), provider="openai")
    sink = NotedSink()
    answer = await bench.run("hello #moved", MODELS["openai"], MODELS["gemini"], sink=sink, max_retries=0)
    assert sink.restarts == [("connection", MODELS["gemini"])]
    assert sink.text() == content(answer) == bench.stub.requests("moved")[-1].text


@pytest.mark.parametrize("name", MODELS)
async def test_a_stream_past_the_limit_is_ended_and_not_tried_again(
    provider: ProviderStub, bench: Bench, name: str
) -> None:
    bench = Bench.over(provider, stream_max_bytes=1_000)
    provider.plan("flood", Step(text="x" * 100_000, chunk_chars=100, chunk_delay_s=0.02, times=None))
    envelope = await bench.failure("hello #flood", MODELS[name], MODELS["gemini"], sink=NotedSink())
    assert envelope.kind == "stream_too_large"
    await async_wait_until(
        lambda: [one.client_closed for one in provider.requests("flood")] == [True], 1, "one closed call"
    )


async def test_a_sinks_own_failure_is_not_the_providers(bench: Bench) -> None:
    broken = NotedSink(fail=ConnectionError("no Redis"))
    with pytest.raises(ConnectionError, match="no Redis"):
        await bench.run("hello #sink", sink=broken)
    assert len(bench.stub.requests("sink")) == 1


@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize(
    ("base", "says"),
    [
        ("http://127.0.0.1:9/v1", "cannot connect to 127.0.0.1:9: Connection refused"),
        ("http://no-such-host.invalid/v1", "cannot connect to no-such-host.invalid:80: "),
        ("https://{stub}/v1", "cannot connect to {stub}: [SSL"),
    ],
)
async def test_a_server_that_cannot_be_connected_to_is_named(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, base: str, says: str, streamed: bool
) -> None:
    stub = urlsplit(bench.stub.base_url("openai")).netloc
    for variable in ("OPENAI_API_BASE", "OPENAI_BASE_URL"):
        monkeypatch.setitem(os.environ, variable, base.format(stub=stub))
    envelope = await bench.failure("hello", sink=NotedSink() if streamed else None, max_retries=1)
    assert (envelope.kind, envelope.provider_status) == ("connection", None)
    assert envelope.message.startswith(says.format(stub=stub))
    assert "object at 0x" not in envelope.message
