"""Streams whose worker or Redis dies in the middle: the reader ends with what the provider said."""

import threading
from collections.abc import Callable
from typing import Any

import pytest

from faults.scene import Scene
from rustic_ai.llm_queue.resolver import ErrorKind, QueueChatCompletionResponse, Restarted
from rustic_ai.llm_queue.resolver.stream import CompletionStream
from support.callers.llm import ask
from support.processes.leaks import lasting_keys
from support.processes.wait import wait_until
from support.providers.provider import Step

pytestmark = pytest.mark.timeout(120)

LONG = Step(words=150, chunk_delay_s=0.02)
#: Longer than any test: its worker does not live to see the end.
ENDLESS = Step(words=5_000, chunk_delay_s=0.02)


class Reader:
    """Reads a stream in a thread, as an agent does that shows it."""

    def __init__(self, stream: CompletionStream, restarts: list[Restarted]) -> None:
        self.shown: list[str] = []
        self.restarts = restarts
        self.response: QueueChatCompletionResponse | None = None
        self.error: BaseException | None = None
        self._stream = stream
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    @property
    def text(self) -> str:
        """What a screen shows that begins anew at a restart."""
        return "".join(self.shown)

    def wait_for_words(self, count: int) -> None:
        wait_until(lambda: len(self.text.split()) >= count, 20, f"{count} words")

    def end(self) -> QueueChatCompletionResponse:
        self._thread.join(60)
        assert not self._thread.is_alive(), f"the reader hangs at {self.text[-40:]!r}"
        if self.error is not None:
            raise self.error
        assert self.response is not None
        return self.response

    def _read(self) -> None:
        try:
            with self._stream as stream:
                for chunk in stream:
                    if chunk.restarted:
                        self.shown.clear()
                    self.shown.append(chunk.text)
                self.response = stream.response
        except BaseException as error:
            self.error = error


def read(scene: Scene, tag: str, **properties: Any) -> Reader:
    restarts: list[Restarted] = []
    llm = scene.callers.llm(**properties)
    return Reader(llm.stream(ask(f"Tell me. #{tag}"), on_restart=restarts.append), restarts)


def at_rest(scene: Scene) -> None:
    """No lease, and nothing without a TTL."""
    with scene.server.client() as client:
        scene.until(lambda: not scene.running(), "the leases to be gone")
        wait_until(lambda: not lasting_keys(client), 10, "keys without a TTL to be gone")


Hit = Callable[[Scene, Any], None]


def kill(scene: Scene, worker: Any) -> None:
    scene.kill(worker)


def stop(scene: Scene, worker: Any) -> None:
    assert worker.stop(20) == 0


@pytest.mark.parametrize("hit", [kill, stop])
def test_a_worker_that_goes_in_mid_stream(scene: Scene, hit: Hit) -> None:
    scene.provider.plan("q", ENDLESS, LONG)
    worker = scene.start_worker(DRAIN="0s")
    reader = read(scene, "q")
    reader.wait_for_words(20)
    scene.start_worker()
    hit(scene, worker)
    response = reader.end()
    first, second = scene.provider.requests("q")
    assert not first.completed
    assert second.completed
    assert reader.text == response.choices[0].message.content == second.text
    assert [one.reason for one in reader.restarts] == [ErrorKind.WORKER_LOST]
    assert [one.status for one in response.attempts] == ["lost", "ok"]
    assert response.possible_duplicate_charge
    at_rest(scene)


def test_a_worker_that_wakes_up_writes_no_chunk_any_more(scene: Scene) -> None:
    scene.provider.plan("q", ENDLESS, Step(words=60, chunk_delay_s=0.05))
    zombie = scene.start_worker()
    reader = read(scene, "q")
    reader.wait_for_words(10)
    with scene.frozen(zombie):
        scene.start_worker()
        wait_until(lambda: reader.restarts, 20, "the other worker's first words")
    response = reader.end()
    _, second = scene.provider.requests("q")
    assert reader.text == response.choices[0].message.content == second.text
    assert len(reader.restarts) == 1
    scene.until(lambda: "is no longer this claim's" in zombie.logs(), "the zombie to notice")
    at_rest(scene)


def test_redis_restarted_in_mid_stream(scene: Scene) -> None:
    scene.provider.plan("*", Step(words=100, chunk_delay_s=0.05, times=None))
    scene.start_worker()
    readers = [read(scene, f"q{number}") for number in range(10)]
    for reader in readers:
        reader.wait_for_words(10)
    scene.server.restart(after_s=1.0)
    for number, reader in enumerate(readers):
        response = reader.end()
        (sent,) = scene.provider.requests(f"q{number}")
        assert reader.text == response.choices[0].message.content == sent.text
        assert reader.restarts == []
    at_rest(scene)


def test_a_redis_that_loses_the_log_costs_the_frames_and_not_the_answer(scene: Scene) -> None:
    scene.provider.plan("q", LONG)
    scene.start_worker()
    reader = read(scene, "q")
    reader.wait_for_words(10)
    with scene.server.client() as client:
        (log,) = client.scan_iter("llmq:stream:*", count=1000)
        client.delete(log)
        # Whoever reads from the log now finds a hole.
        scene.server.cut_connections("pubsub")
    response = reader.end()
    (sent,) = scene.provider.requests("q")
    assert reader.text == response.choices[0].message.content == sent.text
    at_rest(scene)


def test_a_redis_that_is_full_costs_the_frames_and_not_the_answer(scene: Scene) -> None:
    scene.provider.plan("q", LONG)
    worker = scene.start_worker()
    reader = read(scene, "q")
    reader.wait_for_words(10)
    with scene.server.client() as client:
        client.config_set("maxmemory", "1mb")
        scene.until(lambda: "goes on without its stream" in worker.logs(), "the refusal")
        response = reader.end()
        client.config_set("maxmemory", "0")
    (sent,) = scene.provider.requests("q")
    assert reader.text == response.choices[0].message.content == sent.text
    assert reader.restarts == []
    at_rest(scene)


def test_a_redis_that_lost_everything_costs_the_reader_nothing(scene: Scene) -> None:
    scene.provider.plan("q", LONG)
    scene.start_worker()
    scene.start_worker()
    reader = read(scene, "q")
    reader.wait_for_words(10)
    scene.server.flush()
    response = reader.end()
    (sent,) = scene.provider.requests("q")
    assert reader.text == response.choices[0].message.content == sent.text
    assert reader.restarts == []
    assert not response.possible_duplicate_charge
    at_rest(scene)


def test_a_redis_that_lost_everything_and_a_worker_that_dies_next(scene: Scene) -> None:
    scene.provider.plan("q", ENDLESS, Step(words=30, chunk_delay_s=0.02))
    worker = scene.start_worker()
    reader = read(scene, "q")
    reader.wait_for_words(10)
    scene.server.flush()
    with scene.server.client() as client:
        scene.until(lambda: list(client.scan_iter("llmq:job:*")), "the record to be back")
    worker.kill()
    scene.start_worker()
    response = reader.end()
    _, second = scene.provider.requests("q")
    assert reader.text == response.choices[0].message.content == second.text
    assert len(reader.restarts) == 1
    assert response.possible_duplicate_charge
    at_rest(scene)
