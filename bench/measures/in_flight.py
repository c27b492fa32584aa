"""Memory and threads with many calls open at the provider."""

from __future__ import annotations

from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.lab import use_of
from bench.report.figures import Figures, Sizes

_MB = 1e6


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Megabytes and threads of LiteLLM's process and of the client's, idle and at each number of open calls.

    The provider holds the calls until all are open and measured, however long that takes.
    """
    return {contender.name: _measure(contender, sizes.in_flight) for contender in contenders}


def _measure(contender: Contender, levels: Sequence[int]) -> dict[str, float]:
    found = _uses(contender, "idle")
    for level in levels:
        if level > contender.most_in_flight:
            break
        contender.do("begin", number=level, prompt="hold=1")
        contender.stub.wait_open(level)
        found |= _uses(contender, f"at_{level}")
        contender.stub.release()
        contender.do("finish")
    highest = max((level for level in levels if level <= contender.most_in_flight), default=0)
    if highest:
        found["memory_against_idle"] = round(found[f"work_mb_at_{highest}"] / found["work_mb_idle"], 2)
    return found


def _uses(contender: Contender, when: str) -> dict[str, float]:
    found: dict[str, float] = {}
    for role, pids in contender.pids().items():
        use = use_of(pids)
        found[f"{role}_mb_{when}"] = round(use.memory / _MB, 1)
        found[f"{role}_threads_{when}"] = use.threads
    return found
