"""A guild whose agent streams, on real parts."""

from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.resolver import CancelStream
from support.callers.llm import MakeLLM
from support.callers.writers import ERROR, RESPONSE, UPDATE, Talk
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step


@pytest.fixture
def talk(llm: MakeLLM) -> Iterator[Talk]:
    llm()  # for the settings in the environment, which the guild's resolver reads
    with Talk() as talk:
        yield talk


def test_words_reach_the_guild_while_the_model_speaks(talk: Talk, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=60, chunk_delay_s=0.05))
    talk.ask("Tell us. #q")
    talk.wait_for(UPDATE, 3)
    assert provider.open_calls == 1, "the model still speaks"
    (answer,) = talk.wait_for(RESPONSE)
    (sent,) = provider.requests("q")
    assert list(talk.shown().values()) == [answer["choices"][0]["message"]["content"]] == [sent.text]


def test_a_broken_answer_is_replaced_on_the_screen(talk: Talk, provider: ProviderStub) -> None:
    broken = Step(text="This is void, all of it", chunk_delay_s=0.05, fault="cut", after_chunks=4)
    provider.plan("q", broken, Step(words=12))
    talk.ask("Tell us. #q")
    talk.wait_for(RESPONSE)
    assert list(talk.shown().values()) == [provider.requests("q")[1].text]
    assert "replace" in [update.get("updateType") for update in talk.heard(UPDATE)]


def test_a_message_stops_the_model(talk: Talk, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=2000, chunk_delay_s=0.05))
    talk.ask("Tell us. #q")
    update = talk.wait_for(UPDATE)[0]
    talk.say(CancelStream(update_id=update["updateId"]))
    provider.wait_for(lambda seen: not seen[0].open, "q", 1, "the provider's connection to close")
    (error,) = talk.wait_for(ERROR)
    assert error["status_code"] == 409


def test_a_guild_that_goes_takes_its_streams_along(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(words=2000, chunk_delay_s=0.05))
    llm()
    with Talk() as talk:
        talk.ask("Tell us. #q")
        talk.wait_for(UPDATE)
    wait_until(lambda: not provider.open_calls, 10, "the provider's connection to close")
