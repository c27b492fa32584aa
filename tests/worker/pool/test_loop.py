"""The services beside the jobs: none of them ends in silence."""

import asyncio
import logging
import socket
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.worker.pool import loop as loop_module
from rustic_ai.llm_queue.worker.pool.loop import LoopThread
from support.processes.wait import wait_until


@pytest.fixture
def thread(monkeypatch: pytest.MonkeyPatch) -> Iterator[LoopThread]:
    monkeypatch.setattr(loop_module, "_SERVICE_PAUSE_S", 0.01)
    thread = LoopThread()
    thread.start()
    yield thread
    thread.stop()


class Flaky:
    """Ends in its first run by what it is given, and runs on in its second."""

    def __init__(self, ending: BaseException | None) -> None:
        self.ending, self.runs = ending, 0

    async def run(self) -> None:
        self.runs += 1
        if self.runs > 1:
            await asyncio.Event().wait()
        if self.ending is not None:
            raise self.ending


@pytest.mark.parametrize(
    "ending",
    [
        None,
        RuntimeError("of its own"),
        SystemExit(1),
        KeyboardInterrupt(),
        asyncio.CancelledError(),
        MemoryError(),
    ],
    ids=lambda ending: type(ending).__name__,
)
def test_a_service_that_ends_is_logged_and_started_again(
    thread: LoopThread, caplog: pytest.LogCaptureFixture, ending: BaseException | None
) -> None:
    service, other = Flaky(ending), Flaky(RuntimeError())
    with caplog.at_level(logging.ERROR):
        thread.add_service(other)
        thread.add_service(service)
        wait_until(lambda: (service.runs, other.runs) == (2, 2), 10)
    assert [record.getMessage() for record in caplog.records if "Flaky" in record.getMessage()]
    assert thread.running


def test_a_stopped_loop_ends_its_services_at_once(thread: LoopThread) -> None:
    service = Flaky(None)
    thread.add_service(service)
    wait_until(lambda: service.runs == 2, 10)
    thread.stop()
    assert not thread.running
    assert service.runs == 2


def test_a_name_that_is_not_resolved_after_its_connection_was_given_up_is_no_error(
    thread: LoopThread, caplog: pytest.LogCaptureFixture
) -> None:
    async def abandon(error: Exception) -> None:
        asyncio.get_running_loop().create_future().set_exception(error)

    thread.run(abandon(socket.gaierror(-3, "Temporary failure in name resolution"))).result(10)
    thread.run(abandon(OSError("something else"))).result(10)
    wait_until(lambda: "something else" in caplog.text, 10, "an error that nobody awaits")
    assert "resolution" not in caplog.text
