"""Whatever is lost, doubled or late on the way: a reader ends up with the winning attempt's answer."""

import uuid
from dataclasses import dataclass, field
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rustic_ai.llm_queue.resolver.call.answer_reader import AnswerReader
from rustic_ai.llm_queue.resolver.exceptions import JobCancelled, StreamExpired, StreamRestarted
from rustic_ai.llm_queue.resolver.streams.answer import StreamedAnswer
from rustic_ai.llm_queue.resolver.streams.order import Chunks, EndSeen, FrameOrder, OrderEvent, Restarted
from rustic_ai.llm_queue.resolver.streams.source import CaughtUp, Ended, Gone
from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import (
    ChunksFrame,
    Frame,
    FrameId,
    RestartFrame,
    open_frame,
    pack_chunks,
    seal_frame,
)
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Cancelled
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, Sealer

JOB = str(uuid.uuid4())
ABOUT: Any = {"job_id": JOB, "owner": Owner(org="o", guild="g", agent="a"), "sealer": Sealer(KeyRing({}))}


def opened(raw: str, at: FrameId) -> Frame:
    return open_frame(raw, at, **ABOUT)


def chunk(
    text: str | None = None, *, choice: int = 0, reason: str | None = None, **delta: Any
) -> dict[str, Any]:
    if text is not None:
        delta["content"] = text
    return {
        "id": "c",
        "object": "chat.completion.chunk",
        "created": 1,
        "model": "m",
        "choices": [{"index": choice, "delta": delta, "finish_reason": reason}],
    }


def answered(chunks: list[dict[str, Any]]) -> Answered:
    assembler = AnswerAssembler()
    for one in chunks:
        assembler.add(one)
    return Answered(account=Account(), model="m", response=assembler.response())


def reader(**options: Any) -> StreamedAnswer:
    return StreamedAnswer(JOB, "m", AnswerReader().read, **options)


@dataclass
class Stream:
    """What a job's workers write: the log as it stands, and every live message there was."""

    log: list[tuple[FrameId, str]] = field(default_factory=list)
    messages: list[str] = field(default_factory=list)
    answer: list[dict[str, Any]] = field(default_factory=list)
    _at: FrameId = field(default_factory=lambda: FrameId(1, 0))

    def claim(self) -> None:
        """Another worker takes over."""
        self._at = FrameId(self._at.epoch + 1, 0)
        self.answer = []

    def restart(self) -> None:
        self._write(RestartFrame(**self._place(), reason=ErrorKind.CONNECTION, model="m"))
        self.answer = []

    def say(self, chunks: list[dict[str, Any]]) -> None:
        self._write(ChunksFrame(**self._place(), chunks=pack_chunks(chunks)))
        self.answer += chunks

    def end(self) -> None:
        self._place()
        self._append("end:answered", void=False)

    def _place(self) -> dict[str, int]:
        self._at = FrameId(self._at.epoch, self._at.seq + 1)
        return {"epoch": self._at.epoch, "seq": self._at.seq}

    def _write(self, frame: ChunksFrame | RestartFrame) -> None:
        raw = seal_frame(frame.model_dump_json(), **ABOUT)
        self._append(raw, void=frame.seq == 1 or isinstance(frame, RestartFrame))

    def _append(self, raw: str, *, void: bool) -> None:
        if void:
            self.log.clear()
        self.log.append((self._at, raw))
        self.messages.append(f"{self._at}:{raw}")

    def page(self, after: FrameId, most: int) -> list[tuple[FrameId, str]]:
        return [entry for entry in self.log if entry[0] > after][:most]


#: What a worker does next; every text it says is another one.
STEPS = st.lists(st.sampled_from(["say", "say", "say", "restart", "claim"]), max_size=12)


class Follower:
    """A reader as `StreamReader` is one, with a network that hypothesis draws."""

    def __init__(self, stream: Stream, draw: Any) -> None:
        self.stream, self.draw = stream, draw
        self.order = FrameOrder(opened)
        self.answer = reader()
        self.seen: list[str] = []
        self.ended = False

    def hear(self, message: str) -> None:
        self.take(self.order.hear(message))

    def read(self, most: int) -> None:
        page = self.stream.page(self.order.at, most)
        self.order.behind = len(page) == most
        self.take(self.order.read(page))

    def take(self, events: list[OrderEvent]) -> None:
        for event in events:
            if isinstance(event, EndSeen):
                self.ended = True
            else:
                self.note(self.answer.take(event))

    def note(self, chunks: list[Any]) -> None:
        for one in chunks:
            if one.restarted:
                self.seen.clear()
            self.seen.append(one.text)

    def catch_up(self) -> None:
        self.order.behind = True
        while self.order.behind:
            self.read(most=3)


def play(steps: list[str], data: st.DataObject) -> tuple[Stream, Follower]:
    """Let the worker do its steps, while messages arrive in any order, any number of times or never."""
    stream = Stream()
    follower = Follower(stream, data)
    for number, step in enumerate([*steps, "answer", "end"]):
        match step:
            case "say":
                stream.say([chunk(f"{number}, ")])
            case "answer":
                stream.say([chunk("the end"), chunk(reason="stop")])
            case _:
                getattr(stream, step)()
        for message in data.draw(st.lists(st.sampled_from(stream.messages or ["?"]), max_size=4)):
            follower.hear(message)
        if follower.order.behind and data.draw(st.booleans()):
            follower.read(data.draw(st.integers(1, 4)))
    return stream, follower


@settings(max_examples=120)
@given(STEPS, st.data())
def test_the_order_alone_gives_the_winning_attempts_text(steps: list[str], data: st.DataObject) -> None:
    stream, follower = play(steps, data)
    follower.catch_up()
    whole = "".join(one["choices"][0]["delta"].get("content", "") for one in stream.answer)
    assert follower.ended
    assert follower.answer.text(0) == "".join(follower.seen) == whole

    outcome = answered(stream.answer)
    assert follower.answer.take(Ended(outcome)) == [], "nothing had to be made up for"
    assert follower.answer.response is not None
    assert follower.answer.response.choices[0].message.content == whole


@settings(max_examples=120)
@given(STEPS, st.data())
def test_what_the_log_lost_is_made_up_for_at_the_end(steps: list[str], data: st.DataObject) -> None:
    stream, follower = play(steps, data)
    stream.log = [entry for entry in stream.log if data.draw(st.booleans())]
    follower.catch_up()
    outcome = answered(stream.answer)
    follower.note(follower.answer.take(Ended(outcome)))
    assert "".join(follower.seen) == outcome.response["choices"][0]["message"]["content"]


@settings(max_examples=60)
@given(st.lists(st.text(max_size=12), max_size=8), st.data())
def test_forged_messages_change_nothing(forged: list[str], data: st.DataObject) -> None:
    stream, follower = play(["say", "say"], data)
    for text in forged:
        follower.hear(
            data.draw(st.sampled_from([text, f"1-9:{text}", f"1-3:plain:{text}", "1-2:end:failed"]))
        )
    follower.catch_up()
    follower.note(follower.answer.take(Ended(answered(stream.answer))))
    assert "".join(follower.seen) == "0, 1, the end"


def test_a_frame_that_does_not_open_in_the_log_is_made_up_for() -> None:
    stream = Stream()
    for text in ("a", "b", "c"):
        stream.say([chunk(text)])
    stream.say([chunk(reason="stop")])
    stream.log[1] = (stream.log[1][0], stream.log[0][1])
    follower = Follower(stream, None)
    follower.catch_up()
    assert "".join(follower.seen) == "ac"
    follower.note(follower.answer.take(Ended(answered(stream.answer))))
    assert "".join(follower.seen) == "abc"
    assert follower.answer.restarts == 1


def test_a_reader_is_told_of_a_restart_once_and_why() -> None:
    told: list[Restarted] = []
    answer = reader(on_restart=told.append)
    order = FrameOrder(opened)
    stream = Stream()
    stream.say([chunk("void")])
    stream.claim()
    stream.say([chunk("void, too")])
    stream.restart()
    stream.say([chunk("right")])
    events = [event for message in stream.messages for event in order.hear(message)]
    chunks = [one for event in events if not isinstance(event, EndSeen) for one in answer.take(event)]
    assert [(one.text, one.restarted) for one in chunks] == [
        ("void", False),
        ("void, too", True),
        ("right", True),
    ]
    assert [(one.reason, one.model) for one in told] == [
        (ErrorKind.WORKER_LOST, None),
        (ErrorKind.CONNECTION, "m"),
    ]
    assert (answer.text(0), answer.restarts) == ("right", 2)


def test_a_restart_before_the_first_word_is_none() -> None:
    order = FrameOrder(opened)
    stream = Stream()
    stream.restart()
    stream.say([chunk("first")])
    assert [type(event) for message in stream.messages for event in order.hear(message)] == [Chunks]


def test_a_refused_restart_is_an_error() -> None:
    answer = reader(refuse_restarts=True)
    answer.take(Chunks([chunk("void")]))
    with pytest.raises(StreamRestarted) as caught:
        answer.take(Restarted(ErrorKind.RATE_LIMIT, "other"))
    assert (caught.value.kind, caught.value.model, caught.value.job_id) == (
        ErrorKind.RATE_LIMIT,
        "other",
        JOB,
    )


def test_what_was_there_before_is_left_out_and_known() -> None:
    answer = reader(skip_past=True)
    assert answer.take(Chunks([chunk("past ")])) == []
    assert answer.take(Restarted(ErrorKind.CONNECTION)) == []
    assert answer.take(Chunks([chunk("old ")])) == []
    assert answer.take(CaughtUp()) == []
    assert [one.text for one in answer.take(Chunks([chunk("new")]))] == ["new"]
    assert (answer.text(0), answer.restarts) == ("old new", 0)


def test_an_expired_stream_carries_the_answer_that_is_kept() -> None:
    with pytest.raises(StreamExpired) as caught:
        reader().take(Gone(answered([chunk("kept", reason="stop")])))
    assert caught.value.result is not None
    assert caught.value.result.choices[0].message.content == "kept"
    with pytest.raises(StreamExpired) as caught:
        reader().take(Gone())
    assert caught.value.result is None
    with pytest.raises(JobCancelled):
        reader().take(Gone(Cancelled(account=Account())))


CALL = {"index": 0, "id": "x", "type": "function", "function": {"name": "f", "arguments": ""}}
WHOLE = [
    chunk(role="assistant"),
    chunk(reasoning_content="Let me "),
    chunk(reasoning_content="think."),
    chunk("One, "),
    chunk("two.", choice=1),
    chunk(refusal="No"),
    chunk(tool_calls=[CALL]),
    chunk(tool_calls=[{"index": 0, "function": {"arguments": '{"a'}}]),
    chunk(tool_calls=[{**CALL, "index": 1, "id": "y"}, {"index": 0, "function": {"arguments": '":1}'}}]),
    chunk(reason="tool_calls"),
    chunk(choice=1, reason="stop"),
    {**chunk(), "choices": [], "usage": {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}},
]


@pytest.mark.parametrize("shown", range(len(WHOLE) + 1))
def test_from_wherever_the_frames_ended_the_chunks_add_up_to_the_response(shown: int) -> None:
    outcome = answered(WHOLE)
    answer = reader()
    chunks = answer.take(Chunks(WHOLE[:shown])) + answer.take(Ended(outcome))
    again = AnswerAssembler()
    for one in chunks:
        if one.restarted:
            again = AnswerAssembler()
        again.add(
            one.model_dump(exclude_none=True)
            | {"choices": [c.model_dump() for c in one.choices]}
            | {
                "choices": [
                    {**c.model_dump(), "delta": c.delta.model_dump(exclude_none=True)} for c in one.choices
                ]
            }
        )
    assert again.response()["choices"] == outcome.response["choices"]
    # Only a tool call whose arguments are not whole cannot be gone on with.
    assert answer.restarts == (1 if 7 <= shown <= 8 else 0)
