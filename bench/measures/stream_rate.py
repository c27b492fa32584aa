"""Chunks per second through many streams at once, and how long the first word is on its way."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.contenders.contender import Contender
from bench.report.figures import Figures, Meter, Sizes, Spread, alternating, percentile

_CHUNKS = 200
_IN_FLIGHT = 10
_FIRST_CHUNKS = 5


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Chunks per second and CPU a chunk by role; and how late a lone first word is, in ms."""
    spreads: dict[str, dict[str, Spread]] = defaultdict(lambda: defaultdict(Spread))
    first: dict[str, list[float]] = defaultdict(list)
    streaming = [contender for contender in contenders if contender.streams]
    for contender in alternating(streaming, sizes.rounds):
        meter = Meter(contender)
        reply = contender.do(
            "streams", number=sizes.streams, in_flight=_IN_FLIGHT, prompt="stream", chunks=_CHUNKS
        )
        used, spread, chunks = meter.used(), spreads[contender.name], sizes.streams * _CHUNKS
        spread["chunks_per_s"].add(chunks / reply["wall_s"])
        spread["chunks_per_work_cpu_s"].add(chunks / max(used["work"], 1e-3))
        for role, cpu_s in used.items():
            spread[f"{role}_cpu_us_per_chunk"].add(cpu_s / chunks * 1e6)
        alone = contender.do(
            "streams", number=sizes.streams, in_flight=1, prompt="stream pace=10", chunks=_FIRST_CHUNKS
        )
        first[contender.name] += alone["first_s"]
    found: Figures = {name: {key: one.json() for key, one in s.items()} for name, s in spreads.items()}
    for name, times_s in first.items():
        found[name]["first_token_p50_ms"] = round(percentile(times_s, 0.5) * 1000, 2)
        found[name]["first_token_p99_ms"] = round(percentile(times_s, 0.99) * 1000, 2)
    return found
