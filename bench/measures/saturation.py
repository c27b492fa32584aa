"""Calls per second with as many in flight as keep everybody busy."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.report.figures import Figures, Meter, Sizes, Spread, alternating

_IN_FLIGHT = 64


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Calls per second of wall time, and CPU a call by role.

    `calls_per_work_cpu_s` is what one core of LiteLLM's process would carry: neighbours on the machine
    hardly disturb it, as they do wall time.
    """
    spreads: dict[str, dict[str, Spread]] = defaultdict(lambda: defaultdict(Spread))
    for contender in alternating(contenders, sizes.rounds):
        meter = Meter(contender)
        reply = contender.do("calls", number=sizes.calls, in_flight=_IN_FLIGHT, prompt="saturation")
        used, spread = meter.used(), spreads[contender.name]
        spread["calls_per_s"].add(sizes.calls / reply["wall_s"])
        spread["calls_per_work_cpu_s"].add(sizes.calls / max(used["work"], 1e-3))
        for role, cpu_s in used.items():
            spread[f"{role}_cpu_ms_per_call"].add(cpu_s / sizes.calls * 1000)
    return {name: {key: one.json() for key, one in spread.items()} for name, spread in spreads.items()}
