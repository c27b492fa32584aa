"""Calls and chunks a CPU second on each provider's wire format, against LiteLLM in-process.

    python -m bench.wires [--wires openai,gemini] [--rounds 15] [--quick]

Plain, streamed, and both again with LiteLLM's config file (there against LiteLLM's router in-process). Each
round of a worker stands beside one of LiteLLM's; the ratio is the median over the pairs, with the interval in
which the true one lies in 95 of 100 runs. CPU is that of the process in which LiteLLM runs.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path

from bench.clients.models import CONFIGURED, MODELS
from bench.contenders.contender import Contender, Sdk, SdkWithConfig
from bench.contenders.queue import Queue, QueueWithConfig
from bench.lab import Stub
from bench.report.figures import Meter, alternating
from bench.report.ratio import Ratio, paired_ratio

_IN_FLIGHT = 64
_STREAMS_IN_FLIGHT = 10
_CHUNKS = 100


@dataclass(frozen=True)
class Line:
    """What one wire costs in one way."""

    wire: str
    way: str
    queue_ms: float
    litellm_ms: float
    ratio: Ratio

    def __str__(self) -> str:
        """A row of a table in Markdown."""
        return f"| {self.wire} | {self.way} | {self.queue_ms:.3g} | {self.litellm_ms:.3g} | {self.ratio} |"


def measure(
    pairs: Sequence[tuple[Contender, Contender]], wires: Sequence[str], rounds: int, calls: int
) -> Iterator[Line]:
    """Each wire whole and streamed, for each pair of a worker and LiteLLM."""
    for wire in wires:
        for queue, litellm in pairs:
            configured = isinstance(queue, QueueWithConfig)
            model = f"{CONFIGURED}{wire}" if configured else MODELS[wire]
            for streamed in (False, True):
                costs: dict[str, list[float]] = defaultdict(list)
                _round(queue, model, 20, streamed=streamed)
                _round(litellm, model, 20, streamed=streamed)
                for contender in alternating((queue, litellm), rounds):
                    costs[contender.name].append(_round(contender, model, calls, streamed=streamed))
                ours, theirs = costs[queue.name], costs[litellm.name]
                yield Line(
                    wire,
                    ("streamed" if streamed else "whole") + (", config" if configured else ""),
                    statistics.median(ours),
                    statistics.median(theirs),
                    paired_ratio(theirs, ours),
                )


def _round(contender: Contender, model: str, calls: int, *, streamed: bool) -> float:
    """Milliseconds of CPU a call, or a chunk."""
    meter = Meter(contender)
    if not streamed:
        contender.do("calls", number=calls, in_flight=_IN_FLIGHT, prompt="wires", model=model)
        return meter.used()["work"] / calls * 1000
    streams = max(calls // 20, 2)
    contender.do(
        "streams", number=streams, in_flight=_STREAMS_IN_FLIGHT, prompt="wires", chunks=_CHUNKS, model=model
    )
    return meter.used()["work"] / (streams * _CHUNKS) * 1000


def main(arguments: Sequence[str] | None = None) -> int:
    """Print a row for each wire and way, as each is measured. Returns 0."""
    parser = argparse.ArgumentParser(prog="python -m bench.wires", description=__doc__)
    parser.add_argument("--wires", default=",".join(MODELS), help="by default all")
    parser.add_argument("--rounds", type=int, default=15, help="pairs of rounds for each ratio")
    parser.add_argument("--calls", type=int, default=150, help="calls a round")
    parser.add_argument("--only-plain", action="store_true", help="without LiteLLM's config file")
    parser.add_argument("--quick", action="store_true", help="broken operation only: no timing")
    parser.add_argument("--out", type=Path, help="a file for the figures as JSON")
    options = parser.parse_args(arguments)
    rounds, calls = (1, 20) if options.quick else (options.rounds, options.calls)
    with ExitStack() as stack:
        stub = Stub()
        stack.callback(stub.process.kill)
        stub.start()
        pairs: list[tuple[Contender, Contender]] = [(Queue(stub), Sdk(stub))]
        if not options.only_plain:
            pairs.append((QueueWithConfig(stub), SdkWithConfig(stub)))
        for pair in pairs:
            for contender in pair:
                stack.callback(contender.close)
                contender.start()
        print("| Wire | | llm-queue, CPU ms | LiteLLM, CPU ms | LiteLLM's / ours |\n|---|---|---|---|---|")
        lines = []
        for line in measure(pairs, options.wires.split(","), rounds, calls):
            print(line, flush=True)
            lines.append(asdict(line))
    if options.out:
        options.out.write_text(json.dumps(lines, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
