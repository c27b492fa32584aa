"""The agent that streams into its guild, with the queue in memory."""

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rustic_ai.core.guild.agent_ext.depends.llm.models import ResponseCodes

from rustic_ai.llm_queue.resolver import CancelStream, ErrorKind
from rustic_ai.llm_queue.resolver.agents.text_updates import TextUpdates
from rustic_ai.llm_queue.resolver.chunk import ChatCompletionChunk
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from support.callers.writers import ERROR, RESPONSE, UPDATE, Talk
from support.processes.wait import wait_until


@pytest.fixture
def talk(queue: InMemoryQueue) -> Iterator[Talk]:
    with Talk() as talk:
        yield talk


def test_the_words_come_as_updates_and_the_answer_at_the_end(queue: InMemoryQueue, talk: Talk) -> None:
    queue.answer("All work and no play.")
    talk.ask("Well?")
    (answer,) = talk.wait_for(RESPONSE)
    updates = talk.heard(UPDATE)
    assert [one["text"] for one in updates] == ["Al", "l wor", "k an", "d n", "o play", "."]
    assert [one.get("updateType") for one in updates] == [None, *["append"] * 5]
    assert talk.shown() == {queue.jobs[0].id: "All work and no play."}
    assert answer["choices"][0]["message"]["content"] == "All work and no play."
    assert answer["job_id"] == queue.jobs[0].id


def test_the_system_prompt_goes_first(queue: InMemoryQueue, talk: Talk) -> None:
    queue.answer("Fine.")
    talk.ask("Well?")
    talk.wait_for(RESPONSE)
    assert [one["role"] for one in queue.calls[0].params["messages"]] == ["system", "user"]
    assert queue.calls[0].stream


def test_several_requests_are_answered_side_by_side(queue: InMemoryQueue, talk: Talk) -> None:
    queue.hang().answer("Meanwhile.")
    talk.ask("First?")
    talk.ask("Second?")
    talk.wait_for(RESPONSE)
    assert list(talk.shown().values()) == ["Meanwhile."]
    talk.say(CancelStream())
    talk.wait_for(ERROR)


@pytest.mark.parametrize("by_id", [True, False])
def test_a_message_cancels_an_answer(queue: InMemoryQueue, talk: Talk, by_id: bool) -> None:
    queue.hang().hang()
    talk.ask("Go on for ever.")
    talk.ask("You, too.")
    wait_until(lambda: len(queue.jobs) == 2, 5, "the jobs")
    first, second = (job.id for job in queue.jobs)
    talk.say(CancelStream(update_id=first if by_id else None))
    errors = talk.wait_for(ERROR, 1 if by_id else 2)
    assert {error["status_code"] for error in errors} == {ResponseCodes.CONFLICT_ERROR}
    assert set(queue.cancelled) == ({first} if by_id else {first, second})
    talk.say(CancelStream())
    talk.wait_for(ERROR, 2)


def test_a_failure_is_reported_as_other_agents_do(queue: InMemoryQueue, talk: Talk) -> None:
    queue.fail(ErrorKind.RATE_LIMIT, "slow down", provider_status=429)
    talk.ask("Well?")
    (error,) = talk.wait_for(ERROR)
    assert error["status_code"] == ResponseCodes.RATE_LIMIT_ERROR
    assert "slow down" in error["message"]
    assert error["request_messages"][0]["content"] == "Well?"


def chunk(text: str, *, restarted: bool = False) -> ChatCompletionChunk:
    choices = [{"delta": {"content": text}}]
    return ChatCompletionChunk.model_validate({"choices": choices, "restarted": restarted})


def test_an_answer_that_begins_anew_replaces_what_was_shown() -> None:
    updates = TextUpdates("u")
    said = [
        updates.add(chunk("void words ")),
        updates.add(chunk("", restarted=True)),
        updates.add(chunk("right ")),
        updates.add(chunk("words")),
        updates.end(),
    ]
    assert [one and (one["text"], one.get("updateType")) for one in said] == [
        ("void word", None),
        None,
        ("righ", "replace"),
        ("t word", "append"),
        ("s", "append"),
    ]


@given(st.lists(st.text(st.sampled_from("ab \n\u3000東"), max_size=5)))
def test_no_white_space_is_lost_between_updates(pieces: list[str]) -> None:
    """Whatever a guild's messages strip, the UI's text is the model's."""
    updates = TextUpdates("u")
    said = [update for piece in pieces if (update := updates.add(chunk(piece)))]
    said += [update] if (update := updates.end()) else []
    assert "".join(one["text"].strip() for one in said) == "".join(pieces).strip()
