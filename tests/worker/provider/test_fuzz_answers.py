"""Whatever a provider answers, in whatever field: one POST, no fault of the worker's, no raw exception."""

import asyncio
import json
import threading
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import OUTCOME, Account, Answered, Failed
from rustic_ai.llm_queue.worker.attempts.answer import AttemptsFailed
from support.providers.provider import ProviderStub, Step
from support.providers.raw_answers import USAGE
from support.workers.attempt_kit import MODELS, Bench, NotedSink

#: JSON of any kind, half characters, NaN and huge numbers among it.
TEXTS = st.text(st.characters(), max_size=8) | st.sampled_from(
    ["", "stop", "error", "tool_calls", "assistant", "\ud83d", "a\udcafb", "0", "null", "[DONE]", "data:"]
)
LEAVES = (
    st.none() | st.booleans() | TEXTS | st.floats()
    | st.sampled_from([-1, 0, 1, 2**31, 2**63, -(2**63), 10**40, 0.5, 1e308])
)  # fmt: skip
JSONS = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)
CALL = {"index": 0, "id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
MESSAGE = {"role": "assistant", "content": "42", "refusal": None, "tool_calls": [CALL]}
HEAD = {"id": "1", "created": 1_800_000_000, "model": "m", "usage": USAGE}
OPENAI = {
    **HEAD,
    "object": "chat.completion",
    "choices": [{"index": 0, "message": MESSAGE, "finish_reason": "stop", "logprobs": None}],
}
CHUNK = {
    **HEAD,
    "object": "chat.completion.chunk",
    "choices": [{"index": 0, "delta": MESSAGE, "finish_reason": "stop", "logprobs": None}],
}
ANTHROPIC = {
    "id": "1", "type": "message", "role": "assistant", "model": "m", "stop_reason": "end_turn",
    "content": [{"type": "text", "text": "42"}], "usage": {"input_tokens": 1, "output_tokens": 2},
}  # fmt: skip
ANTHROPIC_EVENTS = [
    {"type": "message_start", "message": {**ANTHROPIC, "content": [], "stop_reason": None}},
    {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
    {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": "42"}},
    {"type": "content_block_stop", "index": 0},
    {"type": "message_delta", "delta": {"stop_reason": "end_turn"}, "usage": {"output_tokens": 2}},
    {"type": "message_stop"},
]
GEMINI = {
    "candidates": [{"index": 0, "content": {"role": "model", "parts": [{"text": "42"}]},
                    "finishReason": "STOP"}],
    "usageMetadata": {"promptTokenCount": 1, "candidatesTokenCount": 2, "totalTokenCount": 3},
}  # fmt: skip
COHERE = {
    "id": "1", "finish_reason": "COMPLETE",
    "message": {"role": "assistant", "content": [{"type": "text", "text": "42"}]},
    "usage": {"tokens": {"input_tokens": 1, "output_tokens": 2}},
}  # fmt: skip
COHERE_EVENTS = [
    {"type": "message-start", "id": "1", "delta": {"message": {"role": "assistant", "content": []}}},
    {"type": "content-start", "index": 0, "delta": {"message": {"content": {"type": "text", "text": ""}}}},
    {"type": "content-delta", "index": 0, "delta": {"message": {"content": {"text": "42"}}}},
    {"type": "message-end", "delta": {"finish_reason": "COMPLETE", "usage": COHERE["usage"]}},
]
ERROR = {"error": {"message": "no", "code": 400, "type": "t", "param": "p"}}
WHOLE = {"openai": OPENAI, "huggingface": OPENAI, "anthropic": ANTHROPIC, "gemini": GEMINI, "cohere": COHERE}
STREAMS: dict[str, list[Any]] = {
    "openai": [CHUNK], "huggingface": [CHUNK], "anthropic": ANTHROPIC_EVENTS, "gemini": [GEMINI],
    "cohere": COHERE_EVENTS,
}  # fmt: skip
FUZZED = settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for name, item in inner:
        yield from _paths(item, (*path, name))


def _with(value: Any, path: tuple[Any, ...], put: Any) -> Any:
    if not path:
        return put
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = _with(value[path[0]], path[1:], put)
    return copy


@st.composite
def spoilt(draw: st.DrawFn, answer: Any) -> str:
    """An answer with any JSON in one or two of its places."""
    for _ in range(draw(st.integers(1, 2))):
        answer = _with(answer, draw(st.sampled_from(sorted(_paths(answer), key=repr))), draw(JSONS))
    return json.dumps(answer)


class OneLoop:
    """Examples of one test share an event loop, as calls of one worker do."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="asyncio_fuzz", daemon=True)
        self._thread.start()

    def run(self, work: Awaitable[None]) -> None:
        async def awaited() -> None:
            await work

        asyncio.run_coroutine_threadsafe(awaited(), self._loop).result(60)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


Judge = Callable[[str, str, bool, int], None]


@pytest.fixture
def judged(provider: ProviderStub, provider_keys: None) -> Iterator[Judge]:
    """Plays a body to one call and holds its end against the invariant."""
    loop, bench = OneLoop(), Bench.over(provider)

    async def judge(name: str, body: str, streamed: bool, status: int) -> None:
        provider.reset()
        provider.plan("*", Step(raw=body, status=status, times=None))
        sink = NotedSink() if streamed else None
        try:
            answer = await bench.run("hello", MODELS[name], sink=sink, max_retries=0, timeout_s=30)
            outcome: Any = Answered(account=Account(), model=answer.model, response=answer.response)
        except AttemptsFailed as failed:
            outcome = Failed(account=Account(attempts=failed.attempts), error=failed.envelope)
        if isinstance(outcome, Failed):
            assert outcome.error.kind is not ErrorKind.WORKER_FAULT, outcome.error.message
        assert len(provider.requests()) == 1
        assert OUTCOME.validate_json(outcome.model_dump_json()) == outcome, "what is stored reads the same"

    yield lambda *given: loop.run(judge(*given))
    loop.close()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", WHOLE)
def test_a_whole_answer_may_hold_anything(judged: Judge, name: str) -> None:
    @FUZZED
    @given(body=spoilt(WHOLE[name]))
    def each(body: str) -> None:
        judged(name, body, False, 200)

    each()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_may_hold_anything(judged: Judge, name: str) -> None:
    @FUZZED
    @given(bodies=st.integers(0, len(STREAMS[name]) - 1).flatmap(
        lambda at: st.tuples(*(
            spoilt(event) if number == at else st.just(json.dumps(event))
            for number, event in enumerate(STREAMS[name])
        ))
    ))  # fmt: skip
    def each(bodies: tuple[str, ...]) -> None:
        judged(name, "".join(f"data: {body}\n\n" for body in bodies), True, 200)

    each()


@pytest.mark.timeout(300)
@pytest.mark.parametrize("streamed", [False, True])
@pytest.mark.parametrize("name", WHOLE)
def test_an_error_may_hold_anything(judged: Judge, name: str, streamed: bool) -> None:
    @FUZZED
    @given(body=spoilt(ERROR), status=st.sampled_from([400, 401, 404, 422, 429, 500, 503]))
    def each(body: str, status: int) -> None:
        judged(name, body, streamed, status)

    each()
