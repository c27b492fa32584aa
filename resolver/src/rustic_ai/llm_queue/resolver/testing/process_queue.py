from __future__ import annotations

import os
import threading

from rustic_ai.llm_queue.tasks.connection.redis_url import MEMORY_URL, otherwise_of

from .in_memory_queue import InMemoryQueue

_queues: dict[tuple[int, str], InMemoryQueue] = {}
_lock = threading.Lock()


def memory_queue(url: str = MEMORY_URL) -> InMemoryQueue:
    """The queue of this process behind a `memory://` URL: script it, and ask it what was called.

    It lasts as long as the process; `reset` it between tests. A forked child has its own.
    """
    key = (os.getpid(), url)
    with _lock:
        if key not in _queues:
            _queues[key] = InMemoryQueue(otherwise=otherwise_of(url))
            _queues[key].engine.start()
        return _queues[key]


def close_memory_queues() -> None:
    """End this process's queues; the next call makes new ones."""
    with _lock:
        for key in [key for key in _queues if key[0] == os.getpid()]:
            _queues.pop(key).engine.stop()


def _after_fork() -> None:
    # The parent's may have been held when the child was made.
    global _lock
    _lock = threading.Lock()


os.register_at_fork(after_in_child=_after_fork)
