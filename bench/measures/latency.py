"""How long a call takes at 1, 10 and 100 in flight, and how much of it LiteLLM does not explain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.report.figures import Figures, Sizes, alternating, percentile

_IN_FLIGHT = (1, 10, 100)
_SHARES = {"p50": 0.5, "p99": 0.99}
_BASE = "LiteLLM SDK"


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Milliseconds from the call to its answer, over all rounds; `added` is beyond the SDK's in-process."""
    found: Figures = defaultdict(dict)
    for in_flight in _IN_FLIGHT:
        took: dict[str, list[float]] = defaultdict(list)
        number = max(sizes.calls // 4, in_flight)
        for contender in alternating(contenders, sizes.rounds):
            reply = contender.do("calls", number=number, in_flight=in_flight, prompt="latency")
            took[contender.name] += reply["took_s"]
        for name, times_s in took.items():
            for share, value in _SHARES.items():
                ms = percentile(times_s, value) * 1000
                base_ms = percentile(took[_BASE], value) * 1000
                found[name][f"{share}_ms_at_{in_flight}"] = round(ms, 2)
                found[name][f"added_{share}_ms_at_{in_flight}"] = round(ms - base_ms, 2)
    return dict(found)
