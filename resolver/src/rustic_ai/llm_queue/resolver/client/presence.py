from __future__ import annotations

import asyncio
from contextlib import suppress

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.callers import Callers
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .errors import REDIS_FAILURES

logger = get_logger(__name__)

_GOODBYE_S = 0.5


class Presence:
    """This process as a caller that waits for answers: should it die, the workers cancel its jobs.

    A whole call is known by its reply channel; a stream names its caller in the job's record.
    """

    def __init__(self, redis: Redis, caller: str) -> None:
        """
        Args:
            caller: the process's reply channel.
        """
        self._callers, self._caller = Callers(redis), caller
        self._streams: set[str] = set()
        self._had_streams = False

    def await_stream(self, job_id: str) -> None:
        """This process reads the stream of a job that it is about to submit."""
        self._streams.add(job_id)
        self._had_streams = True

    def caller_of(self, job_id: str) -> str | None:
        """What a stream's job names as its caller; None for any other job."""
        return self._caller if job_id in self._streams else None

    def left(self, job_id: str) -> None:
        """The stream is no longer read, or its job goes on without this process."""
        self._streams.discard(job_id)

    async def announce(self) -> None:
        """The subscription to the reply channel holds: from now on its end means this process's."""
        try:
            await self._callers.register(self._caller)
        except REDIS_FAILURES as error:
            # Not allowed, for example. The jobs then run on to their deadline, should this process die.
            logger.debug("This process is not listed as a caller: %s", type(error).__name__)

    async def leave(self, *, calls_wait: bool) -> None:
        """This process ends. Where a call waits or a stream was read, the workers find out what is left."""
        if calls_wait or self._had_streams:
            return
        with suppress(*REDIS_FAILURES):
            async with asyncio.timeout(_GOODBYE_S):
                await self._callers.forget(self._caller)
