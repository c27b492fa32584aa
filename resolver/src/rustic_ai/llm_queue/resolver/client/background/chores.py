from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

logger = get_logger(__name__)


class Chores:
    """What an engine does in the background, beside the calls. Lives on the engine's loop."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, chore: Coroutine[Any, Any, None]) -> None:
        """Do it in the background. A chore that fails is logged."""
        task = asyncio.get_running_loop().create_task(chore)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def finish(self, timeout_s: float) -> None:
        """Wait for what is under way, and cancel the rest."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=timeout_s)
        for task in self._tasks:
            task.cancel()

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            logger.error("A background task of the client failed", exc_info=error)
