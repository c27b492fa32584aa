from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from ..outcome import Account, Answered
from ..vectors import pack_bytes
from .cached_vector import CachedVector


@dataclass(frozen=True)
class KeptVectors:
    """The vectors that are there already for some of a call's texts."""

    #: How many texts the call has.
    count: int
    #: By the place of their text.
    by_place: Mapping[int, CachedVector]

    @classmethod
    def of(
        cls, names: Sequence[str], kept: Mapping[str, CachedVector], dimensions: int | None
    ) -> KeptVectors:
        """Those of the texts with these names; none at all where they may not stand in one answer.

        Args:
            dimensions: what the call asks for, None for the model's own.
        """
        lengths = {len(one.packed) for one in kept.values()}
        alike = len(lengths) <= 1 and (dimensions is None or lengths <= {dimensions * 4})
        return cls(len(names), {at: kept[name] for at, name in enumerate(names) if alike and name in kept})

    @property
    def missing(self) -> list[int]:
        """The places of the texts that are to be sent, in their order."""
        return [at for at in range(self.count) if at not in self.by_place]

    def sent[T](self, texts: Sequence[T]) -> list[T]:
        """Of something that the call has for each text, that of the texts that are to be sent."""
        return [texts[at] for at in self.missing]

    def hit(self, account: Account, model: str) -> Answered:
        """The outcome of a call whose vectors are all there."""
        tokens = _sum([one.prompt_tokens for one in self.by_place.values()])
        facts = {"cached": "hit", "cost_usd": 0.0, "prompt_tokens": tokens, "completion_tokens": 0}
        said_model = next(iter(self.by_place.values())).model
        return Answered(
            account=account.model_copy(update={**self._saved(), **facts}),
            model=model,
            response={"model": said_model, **pack_bytes(self.whole([]))},
        )

    def joined(self, answered: Answered, vectors: Sequence[bytes]) -> Answered:
        """The outcome with the vectors of all texts.

        Args:
            vectors: those of the texts that were sent, in their order.

        Raises `ValueError` where there is another number of them, and where they are not of one length.
        """
        if not self.by_place:
            return answered
        return answered.model_copy(
            update={
                "account": answered.account.model_copy(update=self._saved()),
                "response": {**answered.response, **pack_bytes(self.whole(vectors))},
            }
        )

    def whole(self, vectors: Sequence[bytes]) -> list[bytes]:
        """The packed vector of every text, in their order; see `joined`."""
        answers = dict(zip(self.missing, vectors, strict=True))
        whole = [self.by_place[at].packed if at in self.by_place else answers[at] for at in range(self.count)]
        if len({len(vector) for vector in whole}) > 1:
            raise ValueError("the vectors that were kept are of another length than those of today")
        return whole

    def _saved(self) -> dict[str, object]:
        kept = self.by_place.values()
        return {
            "cached_texts": len(kept),
            "saved_usd": _sum([one.cost_usd for one in kept]),
            "cache_age_s": max(round(time.time() - min(one.made_ms for one in kept) / 1000, 3), 0.0),
        }


def _sum[N: (int, float)](numbers: Sequence[N | None]) -> N | None:
    """None where one of them is not known."""
    known = [number for number in numbers if number is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(numbers) else None
