from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from ..exceptions import (
    BadRequestError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    UnprocessableEntityError,
)

#: How long a text waits for others to be asked for.
WINDOW_S = 0.010
#: A text for which there is no vector; the others of its call have theirs.
_OF_ONE_TEXT = (
    BadRequestError,
    ContentPolicyViolationError,
    ContextWindowExceededError,
    UnprocessableEntityError,
)

Vector = list[float]
Embed = Callable[[list[str]], Awaitable[list[Vector]]]


class TextWindow:
    """Texts that are asked for one by one, embedded many at a time. Lives on one event loop."""

    def __init__(self, embed: Embed, *, most_texts: int) -> None:
        self._embed, self._most = embed, most_texts
        self._waiting: list[tuple[str, asyncio.Future[Vector]]] = []
        self._timer: asyncio.TimerHandle | None = None
        self._under_way: set[asyncio.Task[None]] = set()

    async def vector_of(self, text: str) -> Vector:
        """The text's vector. Raises what `embed` raises; of others' texts no error comes here."""
        loop = asyncio.get_running_loop()
        found: asyncio.Future[Vector] = loop.create_future()
        self._waiting.append((text, found))
        if len(self._waiting) >= self._most:
            self._send()
        elif self._timer is None:
            self._timer = loop.call_later(WINDOW_S, self._send)
        return await found

    def _send(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        waiting = [(text, found) for text, found in self._waiting if not found.done()]
        self._waiting = []
        if waiting:
            task = asyncio.create_task(self._carry(waiting), name="texts")
            self._under_way.add(task)
            task.add_done_callback(self._under_way.discard)

    async def _carry(self, waiting: Sequence[tuple[str, asyncio.Future[Vector]]]) -> None:
        try:
            vectors = await self._embed([text for text, _ in waiting])
        except Exception as error:
            if isinstance(error, _OF_ONE_TEXT) and len(waiting) > 1:
                middle = len(waiting) // 2
                await self._carry(waiting[:middle])
                await self._carry(waiting[middle:])
                return
            for _, found in waiting:
                if not found.done():
                    found.set_exception(error)
            return
        for (_, found), vector in zip(waiting, vectors, strict=True):
            if not found.done():
                found.set_result(vector)
