"""Redis commands and bytes a call, whole and streamed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.contenders.contender import Contender
from bench.contenders.queue import Queue
from bench.report.figures import Figures, Sizes
from support.servers.valkey import ValkeyServer

_IN_FLIGHT = 10
_CHUNKS = 200
#: Sent by clients; what our functions call inside is no round trip.
_SENT = ("fcall", "blmpop", "brpop", "rpush", "publish", "subscribe", "unsubscribe", "get", "mget",
         "xrange", "exists", "ping", "llen", "multi", "exec")  # fmt: skip


def measure(contenders: Sequence[Contender], sizes: Sizes) -> Figures:
    """By kind of call. The workers' and clients' beats in the background are in it, as they are in life."""
    return {
        contender.name: {"whole": _whole(contender, sizes), "streamed": _streamed(contender, sizes)}
        for contender in contenders
        if isinstance(contender, Queue)
    }


def _whole(contender: Queue, sizes: Sizes) -> dict[str, Any]:
    before = _counters(contender.valkey, mailed=1)
    contender.do("calls", number=sizes.calls, in_flight=_IN_FLIGHT, prompt="round trips")
    return _per_call(before, _counters(contender.valkey, mailed=1), sizes.calls)


def _streamed(contender: Queue, sizes: Sizes) -> dict[str, Any]:
    before = _counters(contender.valkey)
    contender.do("streams", number=sizes.streams, in_flight=_IN_FLIGHT, prompt="pace=5", chunks=_CHUNKS)
    return {"chunks": _CHUNKS} | _per_call(before, _counters(contender.valkey), sizes.streams)


def _counters(valkey: ValkeyServer, *, mailed: int = 0) -> dict[str, float]:
    with valkey.client() as redis:
        stats, commands = redis.info("stats"), redis.info("commandstats")
    counted = {name.removeprefix("cmdstat_"): entry["calls"] for name, entry in commands.items()}
    # Celery's events; a function publishes once with each result it sets and each frame it adds, and a
    # result that is mailed to its caller once more.
    inside = counted.get("set", 0) * (1 + mailed) + counted.get("xadd", 0)
    counted["publish"] = counted.get("publish", 0) - inside
    counted["cpu_us"] = sum(entry["usec"] for name, entry in commands.items() if name[8:] in _SENT)
    counted["bytes_in"] = stats["total_net_input_bytes"]
    counted["bytes_out"] = stats["total_net_output_bytes"]
    return counted


def _per_call(before: dict[str, float], after: dict[str, float], calls: int) -> dict[str, Any]:
    each = {name: round((value - before.get(name, 0)) / calls, 2) for name, value in after.items()}
    totals = {name: each.pop(name) for name in ("cpu_us", "bytes_in", "bytes_out")}
    sent = {name: each[name] for name in _SENT if each.get(name)}
    inside = {name: value for name, value in each.items() if value >= 0.05 and name not in sent}
    return {"commands": round(sum(sent.values()), 2), **totals, "sent": sent, "also_counted": inside}
