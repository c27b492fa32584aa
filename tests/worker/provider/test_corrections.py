"""Each correction of LiteLLM corrects something, and is still needed: without it, its case fails."""

from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from rustic_ai.llm_queue.worker.attempts.answer import AttemptsFailed
from rustic_ai.llm_queue.worker.provider.litellm_api import seam
from support.providers.provider import Step, ToolCall
from support.servers.rogue import RogueServer
from support.workers.attempt_kit import MODELS, Bench, NotedSink, kinds

Case = Callable[[Bench], Awaitable[bool]]


async def _no_second_post_after_a_422(bench: Bench) -> bool:
    bench.stub.plan("unfit", Step(status=422, times=None))
    by_litellm = Bench.over(bench.stub, fast_path="off")
    with pytest.raises(AttemptsFailed):
        await by_litellm.run("hello #unfit", sink=NotedSink())
    return len(bench.stub.requests("unfit")) == 1


async def _a_broken_chunk_is_no_chunk(bench: Bench) -> bool:
    bench.stub.plan("broken", Step(fault="bad_json"))
    by_litellm = Bench.over(bench.stub, fast_path="off")
    answer = await by_litellm.run("hello #broken", MODELS["huggingface"], MODELS["cohere"], sink=NotedSink())
    return kinds(answer) == ["response_processing", "ok"]


async def _gemini_ends_once(bench: Bench) -> bool:
    bench.stub.plan("end", Step(finish_reason="length"))
    by_litellm = Bench.over(bench.stub, fast_path="off")
    answer = await by_litellm.run("hello #end", MODELS["gemini"], sink=NotedSink())
    return bool(answer.response["choices"][0]["finish_reason"] == "length")


async def _cohere_calls_tools(bench: Bench) -> bool:
    bench.stub.plan("tools", Step(tool_calls=(ToolCall(name="clock", arguments='{"a": 1}'),)))
    try:
        answer = await bench.run("hello #tools", MODELS["cohere"], sink=NotedSink(), max_retries=0)
    except AttemptsFailed:
        return False
    (call,) = answer.response["choices"][0]["message"].get("tool_calls") or [{}]
    return bool(call.get("function") == {"name": "clock", "arguments": '{"a": 1}'})


async def _no_session_follows_a_redirect(bench: Bench) -> bool:
    with RogueServer() as inside, RogueServer(redirect_to=inside.url) as rogue:
        async with aiohttp.ClientSession() as session, session.post(rogue.url):
            return inside.received == []


CASES: dict[str, Case] = {
    "AIOHTTP_REQUEST": _no_session_follows_a_redirect,
    "POST_WITH_FEWER_PARAMETERS": _no_second_post_after_a_422,
    "HANDLE_STRING_CHUNK": _a_broken_chunk_is_no_chunk,
    "GEMINI_CHOICE": _gemini_ends_once,
    "COHERE_STREAM": _cohere_calls_tools,
}


def test_every_correction_has_a_case() -> None:
    corrected = {
        name for name, value in vars(seam).items() if isinstance(value, seam.Replaceable) and name.isupper()
    }
    assert corrected == CASES.keys()


@pytest.mark.parametrize("name", CASES)
async def test_it_corrects(bench: Bench, name: str) -> None:
    assert await CASES[name](bench)


@pytest.mark.parametrize("name", CASES)
async def test_it_is_still_needed(bench: Bench, name: str) -> None:
    correction: seam.Replaceable = getattr(seam, name)
    with correction.undone():
        assert not await CASES[name](bench), "LiteLLM does this right by now: remove the correction"
