"""Streams: `python -m bench.streams [--quick]`.

Chunks per second and CPU a chunk against LiteLLM's own stream in-process, how much later the first word
comes, and what gathering chunks in frames saves. All contenders alternate in one run.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any

from bench.contenders.contender import Contender, Sdk
from bench.contenders.queue import Queue
from bench.lab import Stub
from bench.measures import stream_rate
from bench.report.figures import FULL, QUICK, Figures, Meter, Sizes, Spread, alternating
from bench.report.report import print_figures

_CHUNKS = 100
#: A quick model: 100 words a second.
_PACE_MS = 10
#: Few enough that nobody waits for a turn: what gathers does so by its time alone.
_IN_FLIGHT = 4
_STREAM_KEYS = "llmq:stream:*"


class EveryChunk(Queue):
    """The queue without gathering: each chunk is a frame of its own."""

    name = "llm-queue, a frame a chunk"

    def env(self) -> dict[str, str]:
        return super().env() | {"LLM_QUEUE_STREAM_FLUSH": "0s", "LLM_QUEUE_STREAM_FLUSH_BYTES": "1"}


def gathering(contenders: Sequence[Queue], sizes: Sizes) -> Figures:
    """What a chunk of a stream at a model's own pace costs, with frames that gather and without."""
    spreads: dict[str, dict[str, Spread]] = defaultdict(lambda: defaultdict(Spread))
    chunks = sizes.streams * _CHUNKS
    for contender in alternating(contenders, sizes.rounds):
        assert isinstance(contender, Queue)
        _forget_streams(contender)
        meter = Meter(contender)
        reply = contender.do(
            "streams",
            number=sizes.streams,
            in_flight=_IN_FLIGHT,
            prompt=f"gather pace={_PACE_MS}",
            chunks=_CHUNKS,
        )
        used, spread = meter.used(), spreads[contender.name]
        frames, kept_bytes = _kept(contender)
        spread["chunks_per_frame"].add(chunks / frames)
        spread["frames_per_s"].add(frames / reply["wall_s"])
        spread["work_cpu_us_per_frame"].add(used["work"] / frames * 1e6)
        spread["redis_bytes_per_chunk"].add(kept_bytes / chunks)
        for role in ("work", "redis", "client"):
            spread[f"{role}_cpu_us_per_chunk"].add(used[role] / chunks * 1e6)
    return {name: {key: one.json() for key, one in s.items()} for name, s in spreads.items()}


def _forget_streams(contender: Queue) -> None:
    with contender.valkey.client() as client:
        for key in client.scan_iter(_STREAM_KEYS, count=1000):
            client.delete(key)


def _kept(contender: Queue) -> tuple[int, int]:
    """Frames in the logs, and the bytes they take."""
    frames = kept_bytes = 0
    with contender.valkey.client() as client:
        for key in client.scan_iter(_STREAM_KEYS, count=1000):
            frames += int(client.xlen(key)) - 1
            kept_bytes += int(client.memory_usage(key) or 0)
    return frames, kept_bytes


def summary(rate: Figures, gathered: Figures) -> dict[str, Any]:
    """The figures in a line each."""
    sdk, queue = rate[Sdk.name], rate[Queue.name]
    each, default = gathered[EveryChunk.name], gathered[Queue.name]

    def saved(name: str) -> float:
        return float(round(1 - default[name]["median"] / max(each[name]["median"], 1e-9), 2))

    return {
        "chunks a CPU second of the worker, over the SDK's": round(
            queue["chunks_per_work_cpu_s"]["median"] / sdk["chunks_per_work_cpu_s"]["median"], 2
        ),
        "chunks a second, over the SDK's": round(
            queue["chunks_per_s"]["median"] / sdk["chunks_per_s"]["median"], 2
        ),
        "first word added, p50 ms": round(queue["first_token_p50_ms"] - sdk["first_token_p50_ms"], 2),
        "first word added, p99 ms": round(queue["first_token_p99_ms"] - sdk["first_token_p99_ms"], 2),
        "frames that gathering saves": saved_frames(each, default),
        "CPU of the worker that gathering saves": saved("work_cpu_us_per_chunk"),
        "CPU of Redis that gathering saves": saved("redis_cpu_us_per_chunk"),
        "memory of Redis that gathering saves": saved("redis_bytes_per_chunk"),
    }


def saved_frames(each: dict[str, Any], default: dict[str, Any]) -> float:
    """The share of frames that are not sent."""
    return float(round(1 - each["chunks_per_frame"]["median"] / default["chunks_per_frame"]["median"], 2))


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.streams", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="broken operation only: seconds, no timing")
    sizes = QUICK if parser.parse_args(arguments).quick else FULL
    with ExitStack() as stack:
        stub = Stub()
        stack.callback(stub.process.kill)
        stub.start()
        queue, each = Queue(stub), EveryChunk(stub)
        contenders: list[Contender] = [Sdk(stub), queue, each]
        for contender in contenders:
            stack.callback(contender.close)
            contender.start()
        rate = stream_rate.measure(contenders[:2], sizes)
        gathered = gathering([queue, each], sizes)
    print_figures("streams", rate)
    print_figures("gathering", gathered)
    print_figures("in short", {Queue.name: summary(rate, gathered)})
    return 0


if __name__ == "__main__":
    sys.exit(main())
