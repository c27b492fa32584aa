"""The order of a stream's frames: what is to be made of what is heard live and read from the log.

No I/O: frames come in whatever order, as often as they like or not at all, and what comes out is the
current attempt's, each frame once and in its place.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from rustic_ai.llm_queue.tasks.contract import ContractViolation
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.frames import (
    START,
    EndFrame,
    Frame,
    FrameId,
    RestartFrame,
    split_message,
    unpack_chunks,
)
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

logger = get_logger(__name__)


@dataclass(frozen=True)
class Chunks:
    """More of the answer."""

    chunks: list[dict[str, Any]] = field(repr=False)


@dataclass(frozen=True)
class Restarted:
    """What came so far is void: another attempt answers."""

    #: Why the attempt before failed; None when all that is known is that another one won.
    reason: ErrorKind | None
    #: The model that is asked now; None when another worker took over, whose choice is not known yet.
    model: str | None = None


@dataclass(frozen=True)
class EndSeen:
    """The stream reports that its job has ended; the stored result holds how."""


OrderEvent = Chunks | Restarted | EndSeen


class FrameOrder:
    """One reader's place in a stream."""

    def __init__(self, open_frame: Callable[[str, FrameId], Frame]) -> None:
        """
        Args:
            open_frame: opens the frame that stands at a place; raises `ContractViolation`.
        """
        self._open = open_frame
        #: The last frame that was taken.
        self.at = START
        #: Frames are missing, or may be: the log has to be read on from `at`.
        self.behind = True
        self._shown = False

    def hear(self, message: str) -> list[OrderEvent]:
        """Take a live message. Nothing comes of one that was there before, or is ahead of its time."""
        try:
            at, raw = split_message(message)
            if at <= self.at:
                return []
            if self._follows(at):
                return self._take(at, self._open(raw, at))
        except ContractViolation as violation:
            # Anybody on Redis can publish; only the log decides.
            logger.warning("Ignored a message posing as a frame: %s", violation)
        self.behind = True
        return []

    def read(self, page: Iterable[tuple[FrameId, str]]) -> list[OrderEvent]:
        """Take a page of the log."""
        events: list[OrderEvent] = []
        for at, raw in page:
            if at <= self.at:
                continue
            try:
                frame = self._open(raw, at)
            except ContractViolation as violation:
                # Its text is missing then, which the comparison with the result brings to light.
                logger.warning("Skipped a frame of the log: %s", violation)
                self.at = at
                continue
            events += self._take(at, frame)
        return events

    def _follows(self, at: FrameId) -> bool:
        if at.epoch == self.at.epoch:
            return at.seq == self.at.seq + 1
        return at.epoch > self.at.epoch and at.seq <= 1

    def _take(self, at: FrameId, frame: Frame) -> list[OrderEvent]:
        lost = self._shown and at.epoch > self.at.epoch
        self.at = at
        if isinstance(frame, EndFrame):
            return [EndSeen()]
        if isinstance(frame, RestartFrame):
            restart, self._shown = self._shown, False
            return [Restarted(frame.reason, frame.model)] if restart else []
        self._shown = True
        chunks = Chunks(unpack_chunks(frame.chunks))
        return [Restarted(ErrorKind.WORKER_LOST), chunks] if lost else [chunks]
