"""How cost grows as the load doubles."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from bench.contenders.contender import Contender, Sdk
from bench.contenders.queue import Queue
from bench.report.figures import Figures, Meter, Sizes, alternating, exponent


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """CPU of all processes but the provider's for as many calls at once as the load says, and the exponent.

    Only of LiteLLM in-process and of one worker. The less disturbed of two runs counts.
    """
    costs: dict[str, dict[int, float]] = defaultdict(dict)
    able = [contender for contender in contenders if type(contender) in (Sdk, Queue)]
    for load in sizes.loads:
        for contender in alternating(able, 2):
            meter = Meter(contender)
            contender.do("begin", number=load, prompt="growth")
            contender.do("finish")
            used = meter.used()
            cost = sum(cpu_s for role, cpu_s in used.items() if role != "provider")
            costs[contender.name][load] = min(cost, costs[contender.name].get(load, cost))
    return {
        name: {f"cpu_ms_per_call_at_{load}": round(cost / load * 1000, 3) for load, cost in by_load.items()}
        | {"exponent": round(exponent(list(by_load), list(by_load.values())), 3)}
        for name, by_load in costs.items()
    }
