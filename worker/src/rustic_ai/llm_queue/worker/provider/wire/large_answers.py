"""Whole answers that LiteLLM reads on the event loop, but for those that would hold it up."""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from ...pool.inline_executor import in_place, in_thread
from .exchange import current_exchange


class LargeAnswer(BaseException):
    """Ends the reading of an answer on the event loop; nothing of LiteLLM's, or of an SDK's, catches it."""


async def read_aside[T](ask: Awaitable[T], again: Callable[[], T], *, at_once: bool = False) -> T:
    """The result of `ask`, which makes the current exchange; of a large answer that of `again`, in a thread.

    `again` is the same call without an event loop. It sends nothing: its HTTP client is given the answers
    that are here.

    Args:
        at_once: what LiteLLM puts into a thread for `ask` may run on the loop.
    """
    begun = current_exchange()
    assert begun is not None, "an exchange"
    begun.reads_aside = True
    try:
        with in_place(at_once):
            return await ask
    except LargeAnswer:
        begun.replays = True
    return await in_thread(again)
