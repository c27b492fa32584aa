from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

logger = get_logger(__name__)

_RESTART_STEP_S = 0.05
_RESTART_CAP_S = 5.0


async def supervised(name: str, run: Callable[[], Awaitable[None]]) -> None:
    """Run for ever, until cancelled: an error that nobody expected is logged, and the task begins again.

    A background task that ended silently would leave every later call waiting to its timeout.
    """
    loop = asyncio.get_running_loop()
    pause_s = _RESTART_STEP_S
    while True:
        began_at = loop.time()
        try:
            await run()
        except Exception:
            logger.exception("The background task %r failed and is started again", name)
        if loop.time() - began_at > _RESTART_CAP_S:
            pause_s = _RESTART_STEP_S
        await asyncio.sleep(pause_s)
        pause_s = min(pause_s * 2, _RESTART_CAP_S)
