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
#: Of each turn; two workers' parts do not meet.
_SHARE = 1 / 3


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """Calls per second of each number of workers, each of them running a third of the time."""
    ours = [contender for contender in contenders if isinstance(contender, Queue)]
    spreads: dict[str, Spread] = defaultdict(Spread)
    for contender in alternating(ours, sizes.rounds):
        with _held(contender.workers):
            reply = contender.do("calls", number=sizes.calls, in_flight=_IN_FLIGHT, prompt="shares")
        spreads[contender.name].add(sizes.calls / reply["wall_s"])
    return {name: {"calls_per_s": spread.json()} for name, spread in spreads.items()}


@contextmanager
def _held(workers: Sequence[ChildProcess]) -> Iterator[None]:
    over = threading.Event()
    for worker in workers:
        worker.freeze()
    holding = threading.Thread(target=_take_turns, args=(workers, over))
    holding.start()
    try:
        yield
    finally:
        over.set()
        holding.join()
        for worker in workers:
            worker.thaw()


def _take_turns(workers: Sequence[ChildProcess], over: threading.Event) -> None:
    part_s, begins = _TURN_S / len(workers), time.monotonic()
    while not over.is_set():
        for worker in workers:
            worker.thaw()
            _sleep_until(begins + _TURN_S * _SHARE)
            worker.freeze()
            begins += part_s
            _sleep_until(begins)


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))
