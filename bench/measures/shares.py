"""Two workers against one where a core is not what they compete for: each is held to a share of one.

On a machine with few cores two workers, their client, Redis and the provider share what one worker had to
itself. Held to a third of a core each, there is room for all, and what is left between one worker's rate
and two's is what the workers cost each other.
"""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from bench.contenders.contender import Contender
from bench.contenders.queue import Queue
from bench.report.figures import Figures, Sizes, Spread, alternating
from support.processes.process import ChildProcess

_IN_FLIGHT = 64
_TURN_S = 0.03
#: Of each turn; the workers' parts do not meet.
_SHARE = 1 / 3


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Calls per second of each number of workers, each of them running a third of the time."""
    ours = [contender for contender in contenders if isinstance(contender, Queue)]
    spreads: dict[str, Spread] = defaultdict(Spread)
    for contender in alternating(ours, sizes.rounds):
        with held(contender.workers, _SHARE, _TURN_S):
            reply = contender.do("calls", number=sizes.calls, in_flight=_IN_FLIGHT, prompt="shares")
        spreads[contender.name].add(sizes.calls / reply["wall_s"])
    return {name: {"calls_per_s": spread.json()} for name, spread in spreads.items()}


@contextmanager
def held(workers: Sequence[ChildProcess], share: float, turn_s: float) -> Iterator[None]:
    """Each worker runs for `share` of each turn; at most `1 / share` of them."""
    over = threading.Event()
    for worker in workers:
        worker.freeze()
    holding = threading.Thread(target=_take_turns, args=(workers, share, turn_s, over))
    holding.start()
    try:
        yield
    finally:
        over.set()
        holding.join()
        for worker in workers:
            worker.thaw()


def _take_turns(workers: Sequence[ChildProcess], share: float, turn_s: float, over: threading.Event) -> None:
    runs_s = turn_s * share
    rests_s = turn_s / len(workers) - runs_s
    while not over.is_set():
        for worker in workers:
            worker.thaw()
            time.sleep(runs_s)
            worker.freeze()
            time.sleep(max(rests_s, 0))
