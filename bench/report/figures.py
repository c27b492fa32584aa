"""What measures have in common: sizes, rounds, medians and spread."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.contenders.contender import Contender
from bench.lab import cpu_s_of

#: By contender, then by figure.
Figures = dict[str, dict[str, Any]]


@dataclass(frozen=True)
class Sizes:
    """How much is measured."""

    rounds: int
    calls: int
    streams: int
    #: Calls held open at once.
    in_flight: tuple[int, ...]
    #: Results one client awaits.
    awaited: tuple[int, ...]
    #: Loads over which growth is fitted.
    loads: tuple[int, ...]


# Many short rounds in turn: a neighbour on the machine then disturbs single pairs, not a contender.
FULL = Sizes(21, 150, 10, (100, 1_000, 5_000), (1, 1_000, 10_000), (100, 200, 400, 800, 1_600))
QUICK = Sizes(1, 30, 4, (20,), (1, 30), (10, 20))


@dataclass
class Spread:
    """Values of several rounds."""

    values: list[float] = field(default_factory=list)

    def add(self, value: float) -> None:
        self.values.append(value)

    def json(self) -> dict[str, Any]:
        """The median, the range, and the rounds themselves, which are compared pair by pair."""
        return {
            "rounds": [round(value, 4) for value in self.values],
            "median": round(statistics.median(self.values), 4),
            "min": round(min(self.values), 4),
            "max": round(max(self.values), 4),
        }


def percentile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def alternating[C: Contender](contenders: Sequence[C], rounds: int) -> Iterator[C]:
    """Each contender once a round, every other round in reverse, so that a drift favours nobody."""
    for number in range(rounds):
        yield from contenders if number % 2 == 0 else reversed(contenders)


class Meter:
    """CPU seconds that a contender's processes and the provider's use from here on."""

    def __init__(self, contender: Contender) -> None:
        self._contender = contender
        self._before = self._now()

    def used(self) -> dict[str, float]:
        """By role: `work` is where LiteLLM runs; the SDK's client is that process."""
        return {role: cpu_s - self._before[role] for role, cpu_s in self._now().items()}

    def _now(self) -> dict[str, float]:
        return self._contender.cpu_s() | {"provider": cpu_s_of([self._contender.stub.process.pid])}


def exponent(loads: Sequence[float], costs: Sequence[float]) -> float:
    """The b of cost = a * load^b, by least squares over the logarithms."""
    pairs = zip(loads, costs, strict=True)
    logs = [(math.log(load), math.log(max(cost, 1e-3))) for load, cost in pairs]
    return statistics.linear_regression(*zip(*logs, strict=True)).slope
