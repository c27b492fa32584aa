"""Which contenders there are."""

from __future__ import annotations

from collections.abc import Callable

from bench.contenders.contender import Contender, Sdk
from bench.contenders.other_venv import make_other_venv
from bench.contenders.plain_celery import Gevent, Nothing, Prefork, Threads
from bench.contenders.proxy import Proxy
from bench.contenders.queue import Queue, TwoWorkers
from bench.lab import Stub

_OURS: tuple[type[Contender], ...] = (Sdk, Queue, TwoWorkers, Prefork, Threads, Nothing)
_IN_A_VENV_OF_THEIR_OWN: tuple[type[Contender], ...] = (Gevent, Proxy)


def quick_contenders(stub: Stub) -> list[Contender]:
    """The two that need nothing but this project's own environment, and little time."""
    return [Sdk(stub), Queue(stub)]


def all_contenders(stub: Stub, say: Callable[[str], None]) -> list[Contender]:
    """All that can be measured here; reports those that cannot."""
    why_not = make_other_venv()
    kinds = _OURS if why_not else _OURS + _IN_A_VENV_OF_THEIR_OWN
    if why_not:
        names = ", ".join(kind.name for kind in _IN_A_VENV_OF_THEIR_OWN)
        say(f"Left out: {names}; their environment cannot be made: {why_not}")
    return [kind(stub) for kind in kinds]
