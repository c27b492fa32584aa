from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .figures import count, duration

_MIB = 1 << 20


def pool_figures(pool: Mapping[str, Any]) -> dict[str, Any]:
    """An AsyncPool's own statistics as an operator reads them; another pool's as they are."""
    if "in-flight" not in pool:
        return dict(pool)
    return {
        "Calls in flight": count(pool["in-flight"]),
        "Limit of calls in flight": count(pool["max-concurrency"]),
        "Taken, waiting for a place": count(pool["waiting"]),
        "Begun since the start": count(pool["total"]),
        "Event loop lag": duration(pool["loop-lag-s"]),
        "Memory": f"{count(pool['rss-bytes'] / _MIB)} MiB",
    }
