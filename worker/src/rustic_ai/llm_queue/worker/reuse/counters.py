from __future__ import annotations

from dataclasses import dataclass


@dataclass
class ReuseCounters:
    """What became of this worker's calls that asked for an answer already there, or on its way."""

    hits: int = 0
    misses: int = 0
    #: Flights led, and jobs answered by another job's call.
    flights: int = 0
    joined: int = 0
    #: Entries that did not open, and were deleted.
    unreadable: int = 0
