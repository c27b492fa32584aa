"""Finds what holds the event loop: all calls of a worker wait for it."""

import asyncio
import contextlib
import gc
import sys
import threading
import time
import traceback
from collections.abc import AsyncIterator

#: Of the loop's own CPU time: a busy machine takes the rest.
LONGEST_S = 0.05


@contextlib.asynccontextmanager
async def loop_watchdog(longest_s: float = LONGEST_S) -> AsyncIterator[list[str]]:
    """Fails when one step of the running loop takes more than `longest_s` of CPU, and shows its stack.

    What is in memory is set apart from garbage collection meanwhile, as a worker does at its start:
    looking through all of LiteLLM takes up to 0.1 s, whoever happens to be running.
    """
    loop, thread = asyncio.get_running_loop(), threading.get_ident()
    clock = time.pthread_getcpuclockid(thread)
    over = threading.Event()
    held: list[str] = []

    def watch() -> None:
        while not over.is_set():
            turned = threading.Event()
            began_s = time.clock_gettime(clock)
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(turned.set)
            stack = ""
            while not turned.wait(0.005) and not over.is_set():
                if not stack and time.clock_gettime(clock) - began_s > longest_s:
                    stack = "".join(traceback.format_stack(sys._current_frames()[thread]))
            if stack:
                held.append(f"the loop was held for {time.clock_gettime(clock) - began_s:.3f} s:\n{stack}")
            over.wait(0.001)

    watcher = threading.Thread(target=watch, name="loop watchdog")
    gc.freeze()
    watcher.start()
    try:
        yield held
    finally:
        over.set()
        watcher.join()
        gc.unfreeze()
    assert not held, held[0]
