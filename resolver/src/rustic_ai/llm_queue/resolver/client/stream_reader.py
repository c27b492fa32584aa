from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack

from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.frames import START, open_frame
from rustic_ai.llm_queue.tasks.ledger.keys import stream_channel
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.outcome import Outcome
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger
from rustic_ai.llm_queue.tasks.privacy.seal import Sealer

from ..streams.order import EndSeen, FrameOrder, OrderEvent
from ..streams.source import CaughtUp, Ended, Gone, StreamEvent
from .errors import QueueGone
from .resubmit import Resubmit
from .subscriptions import Subscriptions

logger = get_logger(__name__)

#: A reader that has received nothing for this long asks the ledger whether it missed something.
_QUIET_S = 3.0
#: The most that waits for a slow reader; live frames beyond it are dropped and read from the log later.
_MOST_WAITING_BYTES = 512 * 1024
_MESSAGE_BYTES = 128
_PAGE = 64
_OUTAGE_PAUSE_S = 0.2


FetchOutcome = Callable[[], Awaitable[Outcome | None]]


class Inbox:
    """The live frames that have come in and have not been read."""

    def __init__(self) -> None:
        self.subscribed = asyncio.Event()
        #: The log has to be read: the subscription was made anew, or the inbox has overflowed.
        self.missed = True
        self._messages: list[str] = []
        self._bytes = 0
        self._filled = asyncio.Event()

    def joined(self) -> None:
        self.subscribed.set()
        self._miss()

    def heard(self, message: str) -> None:
        self._messages.append(message)
        self._bytes += len(message) + _MESSAGE_BYTES
        if self._bytes > _MOST_WAITING_BYTES:
            self.take()
            self._miss()
        self._filled.set()

    async def wait(self) -> None:
        """Wait until there is something to do."""
        await self._filled.wait()

    def take(self) -> list[str]:
        """What came in since the last time."""
        self._filled.clear()
        messages, self._messages, self._bytes = self._messages, [], 0
        return messages

    def _miss(self) -> None:
        self.missed = True
        self._filled.set()


class StreamReader:
    """Follows one stream: live, and from the log wherever live is not enough."""

    def __init__(
        self,
        job_id: str,
        owner: Owner,
        *,
        subscriptions: Subscriptions,
        ledger: Ledger,
        sealer: Sealer,
        fetch_outcome: FetchOutcome,
        ended: bool = False,
        on_close: Callable[[], None] | None = None,
        resubmit: Resubmit | None = None,
    ) -> None:
        """
        Args:
            ended: the job has ended already, so that an empty log is one that is gone.
            on_close: called when the reader stops listening.
            resubmit: of a job that is this reader's own.
        """
        self._job_id = job_id
        self._subscriptions = subscriptions
        self._ledger = ledger
        self._fetch_outcome = fetch_outcome
        self._ended = ended
        self._resubmit = resubmit
        self._inbox = Inbox()
        self._order = FrameOrder(
            lambda raw, at: open_frame(raw, at, job_id=job_id, owner=owner, sealer=sealer)
        )
        self._exits = AsyncExitStack()
        if on_close is not None:
            self._exits.callback(on_close)
        self._lock = asyncio.Lock()
        self._caught_up = False
        self._ending = False
        self._events: list[StreamEvent] = []
        self._batch: tuple[StreamEvent, ...] = ()
        self._number = 0

    async def join(self, timeout_s: float) -> bool:
        """Subscribe, and wait for the acknowledgement: no frame of a job submitted afterwards is missed.

        False without one in time: the log alone has to do until it comes.
        """
        await self._exits.enter_async_context(
            self._subscriptions.listening(stream_channel(self._job_id), self._inbox)
        )
        try:
            async with asyncio.timeout(timeout_s):
                await self._inbox.subscribed.wait()
        except TimeoutError:
            return False
        return True

    async def close(self) -> None:
        """Stop listening. Closing twice is safe."""
        await self._exits.aclose()

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        """The batch of this number, counted from 1; asked for again, the same again.

        So nothing is lost with a caller whose wait was cut short. `Ended` and `Gone` come last.
        """
        async with self._lock:
            if number != self._number:
                while self._ending or not self._events:
                    await self._proceed()
                self._batch, self._number = tuple(self._events), number
                self._events.clear()
            return self._batch

    async def _proceed(self) -> None:
        try:
            if self._ending:
                await self._end()
            elif self._inbox.missed or self._order.behind:
                await self._read_log()
            elif await self._heard_something():
                for message in self._inbox.take():
                    self._add(self._order.hear(message))
            else:
                await self._ask()
        except OUTAGE_ERRORS as error:
            logger.debug("The stream of job %s waits for Redis: %s", self._job_id, type(error).__name__)
            self._order.behind = True
            await asyncio.sleep(_OUTAGE_PAUSE_S)
        except RedisError as error:
            raise QueueGone.because(error, within_s=_OUTAGE_PAUSE_S) from None

    async def _heard_something(self) -> bool:
        try:
            async with asyncio.timeout(_QUIET_S):
                await self._inbox.wait()
        except TimeoutError:
            return False
        return True

    async def _read_log(self) -> bool:
        """Read one page on. False when there was nothing."""
        self._inbox.missed, self._order.behind = False, True
        page = await self._ledger.frames(self._job_id, after=self._order.at, most=_PAGE)
        if not page and self._ended and self._order.at == START:
            self._events.append(Gone(await self._fetch_outcome()))
            return True
        self._order.behind = len(page) == _PAGE
        self._add(self._order.read(page))
        if not (self._order.behind or self._caught_up):
            self._caught_up = True
            self._events.append(CaughtUp())
        return bool(page)

    def _add(self, events: list[OrderEvent]) -> None:
        for event in events:
            if isinstance(event, EndSeen):
                self._ending = True
            else:
                self._events.append(event)

    async def _end(self) -> bool:
        outcome = await self._fetch_outcome()
        self._ending = False
        if outcome is not None:
            self._events.append(Ended(outcome))
        return outcome is not None

    async def _ask(self) -> None:
        """Nothing was received for long: a message, or the job, may have been lost."""
        if await self._read_log() or await self._end():
            return
        if self._resubmit is not None:
            await self._resubmit.submit_if_lost()
        elif not await self._known():
            self._events.append(Gone())

    async def _known(self) -> bool:
        try:
            return await self._ledger.record(self._job_id) is not None
        except ContractViolation:
            return True
