from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable

from .loop_call import LoopCall
from .loop_inbox import LoopInbox
from .thread_call import ThreadCall


class BackgroundLoop:
    """One asyncio event loop in one daemon thread.

    Agents come with event loops that start and end with each message; what holds a connection
    lives here instead, where nothing changes under it.
    """

    def __init__(self, name: str) -> None:
        self._pid = os.getpid()
        self._loop = asyncio.new_event_loop()
        self._inbox = LoopInbox(self._loop)
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def call[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        """Run on the loop and wait, from a thread. A Ctrl-C in the caller cancels it.

        Raises `RuntimeError` when the loop has ended, or is the parent's of a forked child.
        """
        self._check_process()
        return ThreadCall(coro_fn, self._inbox).result()

    async def acall[T](self, coro_fn: Callable[[], Awaitable[T]]) -> T:
        """Run on the loop and wait, from any event loop. Cancelling this cancels that."""
        self._check_process()
        return await LoopCall(coro_fn, self._inbox).result()

    def _check_process(self) -> None:
        if self._pid != os.getpid():
            # The thread that runs the loop was not copied by the fork: a wait for it would never end.
            raise RuntimeError(
                f"this belongs to process {self._pid}, of which this one is a fork; "
                "open a stream, a handle or a batch of your own from the QueueLLM"
            )

    @property
    def running(self) -> bool:
        """Whether the loop takes work."""
        return self._thread.is_alive() and not self._loop.is_closed()

    def stop(self) -> None:
        """End the loop and its thread. Stopping twice is safe."""
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()
        self._cancel_all()
        # Calls that came meanwhile are cancelled, and later ones refused: none waits for a loop that is gone.
        self._inbox.close()
        self._cancel_all()
        self._loop.close()

    def _cancel_all(self) -> None:
        # What was scheduled becomes a task in this turn.
        self._loop.run_until_complete(asyncio.sleep(0))
        pending = asyncio.all_tasks(self._loop)
        for task in pending:
            task.cancel()
        self._loop.run_until_complete(asyncio.gather(*pending, return_exceptions=True))
