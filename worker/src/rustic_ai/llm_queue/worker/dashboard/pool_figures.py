from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from flower.utils.template import format_duration

_MIB = 1 << 20


def pool_figures(pool: Mapping[str, Any]) -> dict[str, Any]:
    """An AsyncPool's own statistics as an operator reads them; another pool's as they are."""
    if "in-flight" not in pool:
        return dict(pool)
    return {
        "Calls in flight": f"{pool['in-flight']:,}",
        "Limit of calls in flight": f"{pool['max-concurrency']:,}",
        "Taken and waiting for a place": f"{pool['waiting']:,}",
        "Begun since the start": f"{pool['total']:,}",
        "Event loop lag": format_duration(pool["loop-lag-s"]),
        "Memory": f"{pool['rss-bytes'] / _MIB:,.0f} MiB",
        "Pool": pool.get("implementation", ""),
    }
