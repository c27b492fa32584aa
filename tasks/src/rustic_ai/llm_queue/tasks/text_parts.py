from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class TextParts:
    """The texts of a call, of which some have a vector already: what to send, and where each vector goes."""

    #: How many texts the call has.
    count: int
    #: The packed vectors that are there, by the place of their text.
    found: Mapping[int, bytes]

    @property
    def missing(self) -> list[int]:
        """The places of the texts that are to be sent, in their order."""
        return [at for at in range(self.count) if at not in self.found]

    def sent[T](self, texts: Sequence[T]) -> list[T]:
        """Of something that the call has for each text, that of the texts that are to be sent."""
        return [texts[at] for at in self.missing]

    def whole(self, answered: Sequence[bytes]) -> list[bytes]:
        """The vector of every text, in their order.

        Args:
            answered: the vectors of the texts that were sent, in their order.

        Raises `ValueError` for another number of them, and where the vectors are not all of one length.
        """
        answers = dict(zip(self.missing, answered, strict=True))
        whole = [self.found[at] if at in self.found else answers[at] for at in range(self.count)]
        if len({len(vector) for vector in whole}) > 1:
            raise ValueError("the vectors that were kept are of another length than those of today")
        return whole
