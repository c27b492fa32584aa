"""Agents that ask through the queue, and remember how each of their calls ended."""

import asyncio
import threading
import time
from collections.abc import Coroutine, Mapping
from concurrent.futures import Future
from typing import Any, Self

from faults.history import ANSWERED, Call, Ending
from rustic_ai.llm_queue.resolver import QueueLLM
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.resolver.exceptions import (
    JobCancelled,
    JobTimeout,
    QueueError,
    QueueUnavailable,
)
from rustic_ai.llm_queue.resolver.properties import Properties
from rustic_ai.llm_queue.resolver.response import QueueChatCompletionResponse
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.callers.llm import ask

OWNER = Owner(org="acme", guild="faults", agent="asker")
MODEL = "openai/gpt-4o-mini"


class Callers:
    """Any number of calls at once, from one event loop in a thread of its own."""

    def __init__(self, url: str, **settings: Any) -> None:
        self.settings = QueueSettings(redis_url=url, **settings)
        self.calls: list[Call] = []
        self._running: list[Future[None]] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="callers", daemon=True)

    def llm(self, **properties: Any) -> QueueLLM:
        """An agent's `QueueLLM` on this queue."""
        return QueueLLM(Properties.load({"model": MODEL, **properties}), self.settings, OWNER)

    def ask(
        self,
        count: int,
        prefix: str,
        *,
        timeout_s: float = 60.0,
        max_retries: int = 2,
        may_end: frozenset[Ending] = ANSWERED,
        stream: bool = False,
        raw_text: str | None = None,
        **properties: Any,
    ) -> list[Call]:
        """Start calls with the prompts ``#PREFIX-0``, ``#PREFIX-1``, ...; returns their records."""
        llm = self.llm(timeout=timeout_s, max_retries=max_retries, **properties)
        started = []
        for number in range(count):
            call = Call(
                tag=f"{prefix}-{number}",
                timeout_s=timeout_s,
                submitted_at=time.monotonic(),
                max_retries=max_retries,
                may_end=may_end,
                raw_text=raw_text,
            )
            started.append(call)
            self._running.append(self._run(self._call(llm, call, stream=stream)))
        self.calls += started
        return started

    def wait(self, timeout_s: float = 90.0) -> list[Call]:
        """Wait until all calls have ended; those that have not are left without an ending."""
        deadline = time.monotonic() + timeout_s
        for future in self._running:
            try:
                future.result(max(0.0, deadline - time.monotonic()))
            except TimeoutError:
                future.cancel()
        self._running.clear()
        return self.calls

    def drop(self) -> None:
        """Give up all calls, as a caller does that goes away."""
        for future in self._running:
            future.cancel()
        self._running.clear()

    @property
    def under_way(self) -> int:
        """Calls that have not ended."""
        return sum(not one.done() for one in self._running)

    def close(self) -> None:
        """End the thread, and the engine the calls went through. Closing twice is safe."""
        if not self._thread.is_alive():
            return
        for future in self._running:
            future.cancel()
        Engine.shared(self.settings).close()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, coro: Coroutine[Any, Any, None]) -> Future[None]:
        return asyncio.run_coroutine_threadsafe(coro, self._loop)

    async def _call(self, llm: QueueLLM, call: Call, *, stream: bool) -> None:
        call.submitted_at = time.monotonic()
        try:
            if stream:
                await _stream(llm, call)
            else:
                _note_answer(call, await llm.async_completion(ask(f"#{call.tag}")))
        except QueueError as error:
            _note_error(call, error)
        call.ended_at = time.monotonic()


async def _stream(llm: QueueLLM, call: Call) -> None:
    """What a reader ends up with is the text of the call."""
    shown: list[str] = []
    async with llm.async_stream(ask(f"#{call.tag}")) as stream:
        async for chunk in stream:
            if chunk.restarted:
                shown.clear()
            shown.append(chunk.text)
        _note_answer(call, stream.response)
    call.text = "".join(shown)


_ENDINGS: Mapping[type[QueueError], Ending] = {
    JobTimeout: "timeout",
    JobCancelled: "cancelled",
    QueueUnavailable: "refused",
}


def _note_error(call: Call, error: QueueError) -> None:
    call.ending = next((end for kind, end in _ENDINGS.items() if isinstance(error, kind)), "failed")
    call.error = f"{type(error).__name__}: {error}"
    call.accepted = call.ending != "refused" and "had not taken the job" not in error.message
    call.job_id = error.job_id
    call.attempts = error.attempts


def _note_answer(call: Call, response: QueueChatCompletionResponse) -> None:
    call.ending = "answered"
    call.job_id = response.job_id
    call.response_id = response.id
    content = response.choices[0].message.content
    call.text = content if isinstance(content, str) else None
    call.attempts = tuple(response.attempts)
    call.possible_duplicate_charge = response.possible_duplicate_charge
