from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from rustic_ai.llm_queue.tasks.outcome import Outcome

from .order import Chunks, Restarted


class CaughtUp:
    """What comes now is new; all before it was there when the reader joined."""


@dataclass(frozen=True)
class Ended:
    """The job has ended, and how."""

    outcome: Outcome


@dataclass(frozen=True)
class Gone:
    """The stream is no longer kept."""

    #: How the job ended, where that is kept still.
    outcome: Outcome | None = None


StreamEvent = Chunks | Restarted | CaughtUp | Ended | Gone


class StreamSource(Protocol):
    """Where a stream comes from. Lives on the engine's event loop."""

    async def join(self, timeout_s: float) -> bool:
        """Begin to listen: nothing published from now on is missed. False when that took too long."""

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        """Wait for the batch of this number, counted from 1; asked for again, the same again.

        So nothing is lost with a caller whose wait was cut short. `Ended` and `Gone` come last.
        """

    async def close(self) -> None:
        """Stop listening. Closing twice is safe."""
