from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Any, Literal, NamedTuple, Self

from pydantic import Field, TypeAdapter, ValidationError

from .contract import Contract, ContractViolation, field_names
from .error_kind import ErrorKind
from .job import JobState
from .owner import Owner
from .privacy.seal import Purpose, Sealer

_END = "end:"
#: Redis' own ids in a log hold no more.
_COUNT = re.compile(r"[0-9]{1,19}")


class FrameId(NamedTuple):
    """A frame's place in its stream, and its id in the log (a Redis Stream): ids only ever grow.

    Within an epoch the sequence runs from 1 without a gap; a higher epoch voids all before it.
    """

    epoch: int
    seq: int

    def __str__(self) -> str:
        return f"{self.epoch}-{self.seq}"

    @classmethod
    def parse(cls, text: str) -> Self:
        """Raises `ContractViolation`."""
        epoch, _, seq = text.partition("-")
        if not (_COUNT.fullmatch(epoch) and _COUNT.fullmatch(seq)):
            raise ContractViolation("a frame without a place in its stream")
        return cls(int(epoch), int(seq))


#: Before every frame.
START = FrameId(0, 0)


class _Placed(Contract):
    # Inside the seal: a frame that is moved or sent again does not open at its new place.
    epoch: int = Field(ge=1)
    seq: int = Field(ge=1)


class ChunksFrame(_Placed):
    """What gathered within one flush."""

    kind: Literal["chunks"] = "chunks"
    #: OpenAI `chat.completion.chunk` objects; see `pack_chunks`.
    chunks: tuple[dict[str, Any], ...] = Field(repr=False)


class RestartFrame(_Placed):
    """What came so far is void: the attempt failed, and the next one begins anew."""

    kind: Literal["restart"] = "restart"
    #: Why the attempt before failed.
    reason: ErrorKind
    #: The model that is asked now.
    model: str


@dataclass(frozen=True)
class EndFrame:
    """The job has ended. A hint and not sealed: what decides is the stored result."""

    state: JobState


Frame = ChunksFrame | RestartFrame | EndFrame
_FRAME: TypeAdapter[ChunksFrame | RestartFrame] = TypeAdapter(
    Annotated[ChunksFrame | RestartFrame, Field(discriminator="kind")]
)


def seal_frame(body: str, *, job_id: str, owner: Owner, sealer: Sealer) -> str:
    """A frame's JSON as it stands in the log and goes out live."""
    return sealer.seal(body, purpose=Purpose.FRAME, job_id=job_id, owner=owner)


def open_frame(raw: str, at: FrameId, *, job_id: str, owner: Owner, sealer: Sealer) -> Frame:
    """The frame that stands at `at`.

    Raises `ContractViolation`: `SealError` when it does not open, or stood elsewhere.
    """
    if raw.startswith(_END):
        try:
            return EndFrame(JobState(raw.removeprefix(_END)))
        except ValueError:
            raise ContractViolation("a stream's end in an unknown state") from None
    body = sealer.open(raw, purpose=Purpose.FRAME, job_id=job_id, owner=owner)
    try:
        frame = _FRAME.validate_json(body)
    except ValidationError as error:
        raise ContractViolation(f"a frame does not validate: {field_names(error)}") from None
    if (frame.epoch, frame.seq) != at:
        raise ContractViolation(f"the frame of place {frame.epoch}-{frame.seq} at {at}")
    return frame


def split_message(message: str) -> tuple[FrameId, str]:
    """A live message taken apart: the frame's place, and the frame. Raises `ContractViolation`."""
    at, _, raw = message.partition(":")
    return FrameId.parse(at), raw


_HEAD = ("id", "object", "created", "model", "system_fingerprint")


def pack_chunks(chunks: Sequence[dict[str, Any]]) -> tuple[dict[str, Any], ...]:
    """`chunks` without what each one only repeats of the one before it in its frame."""
    packed = list(chunks[:1])
    for before, chunk in pairwise(chunks):
        packed.append(
            {name: value for name, value in chunk.items() if name not in _HEAD or before.get(name) != value}
        )
    return tuple(packed)


def unpack_chunks(packed: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """The chunks that `pack_chunks` was given."""
    head: dict[str, Any] = {}
    chunks = []
    for chunk in packed:
        head |= {name: chunk[name] for name in _HEAD if name in chunk}
        chunks.append({**head, **chunk})
    return chunks
