"""Server-sent events in OpenAI's form, however a provider writes them."""

import json
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from support.providers.provider import Step
from support.workers.attempt_kit import MODELS, Bench, NotedSink, content, kinds

MODEL = MODELS["openai"]
EVENTS = {"content-type": "text/event-stream"}


def chunk(text: str | None = None, reason: str | None = None, **more: Any) -> str:
    delta = {} if text is None else {"content": text}
    choice = {"index": 0, "delta": delta, "finish_reason": reason, "logprobs": None}
    return json.dumps({"id": "c1", "created": 1, "model": "m", "choices": [choice], **more})


FIRST, LAST = chunk("4"), chunk("2", "stop")
#: What all say the same.
SPELLINGS = {
    "as OpenAI writes them": f"data: {FIRST}\n\ndata: {LAST}\n\ndata: [DONE]\n\n",
    "without a blank": f"data:{FIRST}\n\ndata:{LAST}\n\ndata:[DONE]\n\n",
    "carriage returns": f"data: {FIRST}\r\n\r\ndata: {LAST}\r\n\r\n",
    "carriage returns alone": f"data: {FIRST}\r\rdata: {LAST}\r\r",
    "no line between": f"data: {FIRST}\ndata: {LAST}\ndata: [DONE]\n",
    "no end": f"data: {FIRST}\n\ndata: {LAST}",
    "comments and names": f": hello\nevent: chunk\nid: 1\nretry: 5\ndata: {FIRST}\n\n:\n\ndata: {LAST}\n\n",
    "empty data": f"data:\n\ndata: {FIRST}\n\ndata: \n\ndata: {LAST}\n\n",
    "over several lines": "".join(
        f"data: {line}\n" for line in json.dumps(json.loads(FIRST), indent=1).splitlines()
    )
    + f"\ndata: {LAST}\n\n",
    "lines of JSON": f"{FIRST}\n{LAST}\n",
    "more after the end": f"data: {FIRST}\n\ndata: {LAST}\n\ndata: [DONE]\n\ndata: {FIRST}\n\n",
    "no choices beside": f'data: {FIRST}\n\ndata: {{"choices": null, "id": 7}}\n\ndata: {LAST}\n\n',
}


@pytest.mark.parametrize("name", SPELLINGS)
async def test_all_spellings_of_events_are_read(bench: Bench, name: str) -> None:
    bench.stub.plan("spelt", Step(raw=SPELLINGS[name], headers=EVENTS))
    sink = NotedSink()
    answer = await bench.run("ask #spelt", MODEL, sink=sink)
    assert content(answer) == sink.text() == "42"
    assert kinds(answer) == ["ok"]


#: No answer, and how it is called.
BROKEN = {
    "cut in an event": (f"data: {FIRST}\n\ndata: {LAST[:-9]}", ErrorKind.RESPONSE_PROCESSING),
    "cut after an event": (f"data: {FIRST}\n\n", ErrorKind.RESPONSE_PROCESSING),
    "no JSON": (f"data: {FIRST}\n\ndata: {LAST[:-9]}\n\ndata: {LAST}\n\n", ErrorKind.RESPONSE_PROCESSING),
    "a list": (f"data: {FIRST}\n\ndata: [1]\n\ndata: {LAST}\n\n", ErrorKind.RESPONSE_PROCESSING),
    "an error": (
        f'data: {FIRST}\n\ndata: {{"error": {{"message": "slow down", "code": 429}}}}\n\n',
        ErrorKind.RATE_LIMIT,
    ),
    "given up": (f"data: {FIRST}\n\ndata: {chunk('2', 'abort')}\n\n", ErrorKind.INTERNAL_SERVER),
}


@pytest.mark.parametrize("name", BROKEN)
async def test_a_stream_that_is_no_whole_answer_is_a_failure(bench: Bench, name: str) -> None:
    raw, kind = BROKEN[name]
    bench.stub.plan("broken", Step(raw=raw, headers=EVENTS, times=None))
    failure = await bench.failure("ask #broken", MODEL, sink=NotedSink(), max_retries=0)
    assert failure.kind is kind
    assert len(bench.stub.requests("broken")) == 1


async def test_an_event_of_endless_lines_is_refused(bench: Bench) -> None:
    small = Bench.over(bench.stub, max_answer_bytes=10_000)
    lines = "data: {\n" + "data: 1,\n" * 10_000
    bench.stub.plan("endless", Step(raw=lines, headers=EVENTS, times=None))
    failure = await small.failure("ask #endless", MODEL, sink=NotedSink(), max_retries=0)
    assert failure.kind is ErrorKind.ANSWER_TOO_LARGE
