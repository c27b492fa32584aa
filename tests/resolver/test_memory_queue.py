"""The test kit: `memory://`, and what a script can say that real parts say only by chance."""

import multiprocessing
import signal
import subprocess
import sys
import threading
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from rustic_ai.core.guild.builders import GuildBuilder

from rustic_ai.llm_queue.resolver import (
    ConfigurationError,
    ErrorKind,
    InternalServerError,
    QueueError,
    QueueLLM,
    QueueLLMResolver,
    RateLimitError,
)
from rustic_ai.llm_queue.resolver.exceptions import BY_KIND
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue, memory_queue
from rustic_ai.llm_queue.resolver.testing.process_queue import close_memory_queues
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.privacy.seal import make_key
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError
from rustic_ai.llm_queue.worker.broker.app import make_celery_app
from support.callers.llm import ask
from support.processes.wait import wait_until

SPEC = Path(__file__).parents[2] / "examples" / "qa_guild.yaml"


@pytest.fixture(autouse=True)
def memory(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "memory://")
    yield
    close_memory_queues()


def make_llm(**properties: Any) -> QueueLLM:
    return QueueLLMResolver(**{"model": "gpt-4", **properties}).resolve("org", "guild", "agent")


def answer(llm: QueueLLM, question: str = "Well?") -> str | None:
    return llm.completion(ask(question)).choices[0].message.content


def test_calls_go_to_the_processes_own_queue() -> None:
    memory_queue().answer("Paris").fail(ErrorKind.RATE_LIMIT, "slow down", retry_after_s=7)
    llm = make_llm()
    assert answer(llm, "Capital of France?") == "Paris"
    with pytest.raises(RateLimitError, match="slow down"):
        answer(llm)
    assert memory_queue().calls[0].params["messages"][-1]["content"] == "Capital of France?"


def test_a_property_selects_it_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LLM_QUEUE_REDIS_URL")
    memory_queue().answer("Paris")
    assert answer(make_llm(redis_url="memory://")) == "Paris"


def test_a_call_without_an_answer_is_told_how_to_script_one() -> None:
    with pytest.raises(InternalServerError, match=r"testing\.memory_queue\(\)"):
        answer(make_llm())


def test_a_text_for_every_call(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", "memory://?otherwise=Who+knows%3F")
    assert [answer(make_llm()) for _ in range(2)] == ["Who knows?"] * 2


@pytest.mark.parametrize("url", ["memory:", "memory://host", "memory:///file", "memory://?answer=x"])
def test_a_url_that_is_none_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ConfigurationError, match="redis_url"):
        make_llm(redis_url=url)
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", url)
    with pytest.raises(SettingsError, match="LLM_QUEUE_REDIS_URL"):
        QueueSettings()


def test_a_reset_forgets_the_script_and_the_calls() -> None:
    queue = memory_queue().answer("one").answer("two")
    answer(make_llm())
    queue.reset()
    assert (queue.calls, queue.jobs) == ([], [])
    with pytest.raises(QueueError, match="no answer left"):
        answer(make_llm())


def test_a_with_goes_before_it() -> None:
    memory_queue().answer("from the process's")
    with InMemoryQueue() as queue:
        queue.answer("from the test's")
        assert answer(make_llm()) == "from the test's"
    assert answer(make_llm()) == "from the process's"


def test_a_forked_child_has_a_queue_of_its_own() -> None:
    memory_queue().answer("the parent's")
    context = multiprocessing.get_context("fork")
    said = context.SimpleQueue()

    def in_the_child() -> None:
        memory_queue().answer("the child's")
        said.put(answer(make_llm()))

    child = context.Process(target=in_the_child)
    child.start()
    child.join(20)
    assert said.get() == "the child's"
    assert answer(make_llm()) == "the parent's"


def test_a_step_answers_by_the_call() -> None:
    queue = memory_queue().reply(lambda call: f"You said: {call.params['messages'][-1]['content']}")
    assert answer(make_llm(), "Hello") == "You said: Hello"
    queue.answer(tool_calls={"weather": {"city": "Bern"}})
    calls = make_llm().completion(ask("?")).choices[0].message.tool_calls
    assert calls is not None
    assert [(call.function.name, call.function.arguments) for call in calls] == [
        ("weather", '{"city": "Bern"}')
    ]


def test_a_stream_comes_in_the_pieces_it_is_given_in() -> None:
    memory_queue().answer(["Par", "is"]).answer("two words")
    for expected in (["Par", "is"], ["two ", "words"]):
        with make_llm().stream(ask("?")) as stream:
            assert [chunk.text for chunk in stream if chunk.text] == expected


def test_a_held_stream_goes_on_when_it_is_released() -> None:
    queue = memory_queue().answer(["Par", "is", "."], hold_after=2)
    with make_llm().stream(ask("?")) as stream:
        assert [next(stream).text, next(stream).text] == ["Par", "is"]
        queue.release()
        assert [chunk.text for chunk in stream if chunk.text] == ["."]
    assert stream.restarts == 0


@pytest.mark.parametrize("kind", list(ErrorKind))
def test_every_kind_of_failure_can_be_scripted(kind: ErrorKind) -> None:
    memory_queue().fail(kind, "as scripted")
    with pytest.raises(BY_KIND[kind], match="as scripted") as caught:
        answer(make_llm())
    assert type(caught.value) is BY_KIND[kind]
    assert caught.value.kind is kind


@pytest.mark.parametrize(
    ("kind", "status"),
    [(ErrorKind.RATE_LIMIT, 429), (ErrorKind.BAD_REQUEST, 400), (ErrorKind.CONNECTION, None)],
)
def test_a_failure_has_the_status_that_goes_with_it(kind: ErrorKind, status: int | None) -> None:
    memory_queue().fail(kind)
    with pytest.raises(QueueError) as caught:
        answer(make_llm())
    assert (caught.value.provider_status, caught.value.attempts[0].provider_status) == (status, status)


def test_ctrl_c_takes_the_job_along() -> None:
    queue = memory_queue().answer("at last", hold_after=0)

    def interrupt() -> None:
        wait_until(lambda: queue.jobs, 10, "the job")
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        answer(make_llm())
    thread.join(10)
    wait_until(lambda: queue.cancelled == [queue.jobs[0].id], 10, "the job to be cancelled")


def test_ctrl_c_as_a_stream_is_opened_takes_the_job_along() -> None:
    queue = memory_queue().answer("at last", hold_after=0)

    def interrupted(call: Callable[[], Awaitable[Any]]) -> None:
        vars(queue.engine).pop("call")  # the first time only
        queue.engine.call(call)
        raise KeyboardInterrupt

    stream = make_llm().stream(ask("?"))
    vars(queue.engine)["call"] = interrupted
    with pytest.raises(KeyboardInterrupt), stream:
        pass
    assert queue.cancelled == [queue.jobs[0].id]


def test_a_sealed_call_is_opened_for_the_script(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", make_key())
    queue = memory_queue().answer("Paris")
    assert answer(make_llm(api_key="sk-canary"), "Capital of France?") == "Paris"
    assert "France" not in queue.jobs[0].request
    assert queue.calls[0].params["messages"][-1]["content"] == "Capital of France?"


def test_a_guilds_specification_stays_as_it_is() -> None:
    memory_queue().answer("They sing.")
    (spec,) = GuildBuilder.from_yaml_file(str(SPEC)).build_spec().dependency_map.values()
    llm = spec.to_resolver().resolve("org", "guild", "agent")
    assert llm.completion(ask("Why?")).choices[0].message.content == "They sing."


def test_what_needs_a_server_says_so() -> None:
    for make in (lambda: make_celery_app(QueueSettings()), lambda: connect("memory://", outage_s=0)):
        with pytest.raises(SettingsError, match="LLM_QUEUE_REDIS_URL: memory:// is for agents under test"):
            make()


@pytest.mark.parametrize("command", [["worker"], ["costs"], ["doctor"], ["flower"]])
def test_commands_want_a_server(command: list[str]) -> None:
    ran = subprocess.run(
        [sys.executable, "-m", "rustic_ai.llm_queue.worker.cli", *command],
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert ran.returncode == 3
    assert "memory:// is for agents under test" in ran.stderr
    assert "Traceback" not in ran.stderr
