"""The ratio of two contenders, from rounds that they made in turn."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Ratio:
    """The median of all pairs' ratios, and the interval that holds the true median in 95 of 100 runs."""

    median: float
    low: float
    high: float
    pairs: int

    def __str__(self) -> str:
        return f"{self.median:.2f} ({self.low:.2f} to {self.high:.2f})"


def paired_ratio(first: Sequence[float], second: Sequence[float]) -> Ratio:
    """Of each round of `first` to the round of `second` made beside it.

    What else the machine did at that moment was nearly the same for both, so it nearly cancels out. With
    fewer than 6 pairs the interval is the whole range.
    """
    ratios = sorted(one / other for one, other in zip(first, second, strict=True))
    below = _left_out(len(ratios))
    return Ratio(statistics.median(ratios), ratios[below], ratios[len(ratios) - 1 - below], len(ratios))


def _left_out(pairs: int) -> int:
    """How many of the lowest and of the highest ratios lie outside the interval of 95 %.

    Each pair lies below the true median with a chance of one half, whatever their distribution.
    """
    chances = accumulate(math.comb(pairs, number) * 0.5**pairs for number in range(pairs))
    return max(sum(chance <= 0.025 for chance in chances) - 1, 0)
