"""`python -m bench [--quick] [--only saturation,latency]`: measure, print, write JSON and a plot."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from bench.contenders.contender import Contender, Sdk
from bench.contenders.known import all_contenders, quick_contenders
from bench.contenders.queue import Queue
from bench.lab import BrokenContender, Stub
from bench.measures import (
    backlog,
    growth,
    in_flight,
    latency,
    round_trips,
    saturation,
    shares,
    start_up,
    stream_rate,
)
from bench.report.figures import FULL, QUICK, Figures, Sizes
from bench.report.plot import draw
from bench.report.report import Target, print_figures, print_targets, targets

MEASURES: dict[str, Callable[[Sequence[Contender], Sizes], Figures]] = {
    "saturation": saturation.measure,
    "shares": shares.measure,
    "latency": latency.measure,
    "streams": stream_rate.measure,
    "in_flight": in_flight.measure,
    "round_trips": round_trips.measure,
    "growth": growth.measure,
    "backlog": backlog.measure,
    "start_up": start_up.measure,
}
_QUICK_MEASURES = ("saturation", "latency", "streams", "in_flight", "round_trips", "backlog")


def main(arguments: Sequence[str] | None = None) -> int:
    """Returns 0, or 1 when a contender gave an error or a wrong answer; never for being slow."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="broken operation only: seconds, no timing")
    parser.add_argument("--only", metavar="MEASURE,…", help=", ".join(MEASURES))
    parser.add_argument("--contenders", metavar="TEXT,…", help="those with one of these texts in their name")
    parser.add_argument("--out", type=Path, default=Path("bench/out"), help="where results go")
    options = parser.parse_args(arguments)
    names = _QUICK_MEASURES if options.quick else tuple(MEASURES)
    chosen = options.only.split(",") if options.only else names
    options.out.mkdir(parents=True, exist_ok=True)
    results = options.out / "results.json"
    # With --only the other measures stand as they were, each with its own conditions.
    before = json.loads(results.read_text()) if options.only and results.exists() else {}
    document: dict[str, Any] = {}
    for measured in run(QUICK if options.quick else FULL, chosen, _chooser(options)):
        document = {key: before.get(key, {}) | value for key, value in measured.items()}
        results.write_text(json.dumps(document, indent=1) + "\n")
    met = targets(document["figures"])
    report(document["figures"], met)
    if "saturation" in document["figures"]:
        (options.out / "results.svg").write_text(draw(document["figures"]))
    print(f"\nWritten to {options.out}")
    return 0


def run(
    sizes: Sizes, names: Sequence[str], wanted: Callable[[Contender], bool]
) -> Iterator[dict[str, dict[str, Any]]]:
    """Measure; what is known so far after each measure. Raises `BrokenContender`."""
    figures: dict[str, Figures] = {}
    conditions: dict[str, dict[str, Any]] = {}
    with ExitStack() as stack:
        stub = Stub()
        stack.callback(stub.process.kill)
        stub.start()
        contenders: list[Contender] = []
        known = quick_contenders(stub) if sizes is QUICK else all_contenders(stub, _say)
        for contender in filter(wanted, known):
            _say(f"starting {contender.name}")
            stack.callback(contender.close)
            try:
                contender.start()
            except (AssertionError, BrokenContender) as error:
                if isinstance(contender, Sdk | Queue):
                    raise
                _say(f"Left out: {contender.name} does not start here: {str(error).splitlines()[0]}")
                contender.close()
            else:
                contenders.append(contender)
        for name in names:
            began, before = time.monotonic(), os.getloadavg()[0]
            figures[name] = MEASURES[name](contenders, sizes)
            took_s, after = round(time.monotonic() - began), os.getloadavg()[0]
            at = time.strftime("%Y-%m-%d %H:%M", time.gmtime())
            conditions[name] = {"at": at, "took_s": took_s, "load_before": before, "load_after": after}
            _say(f"{name}: {took_s} s, load {before:.1f} to {after:.1f}")
            yield {"machine": machine(), "conditions": conditions, "figures": figures}


def report(figures: dict[str, Figures], met: Sequence[Target]) -> None:
    """Ratios first, then everything."""
    print_targets(met)
    for name, measured in figures.items():
        print_figures(name, measured)


def machine() -> dict[str, Any]:
    """What it ran on."""
    cpu = next(
        (line.split(":")[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "?"
    )
    return {
        "cpu": cpu,
        "cores": os.cpu_count(),
        "system": platform.platform(),
        "python": platform.python_version(),
    }


def _lines(path: str) -> list[str]:
    return Path(path).read_text().splitlines()


def _chooser(options: argparse.Namespace) -> Callable[[Contender], bool]:
    if options.contenders:
        texts = options.contenders.split(",")
        return lambda contender: isinstance(contender, Sdk) or any(text in contender.name for text in texts)
    return lambda _: True


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


if __name__ == "__main__":
    sys.exit(main())
