"""The table: ratios first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.report.figures import Figures
from bench.report.ratio import Ratio, paired_ratio

SDK, ONE, TWO, PROXY = "LiteLLM SDK", "llm-queue, 1 worker", "llm-queue, 2 workers", "LiteLLM proxy"


@dataclass(frozen=True)
class Target:
    """A ratio that is aimed at."""

    name: str
    value: float
    bound: float
    at_least: bool = True
    #: The ratio of pairs of rounds, where it is one.
    ratio: Ratio | None = None

    @property
    def met(self) -> bool:
        return self.value >= self.bound if self.at_least else self.value <= self.bound


def targets(figures: Mapping[str, Figures]) -> list[Target]:
    """Those for which there are figures."""
    found: list[Target] = []

    def add(name: str, bound: float, ratio: Any, *, at_least: bool = True) -> None:
        try:
            value = ratio()
        except (KeyError, ZeroDivisionError):
            return  # not measured in this run
        if isinstance(value, Ratio):
            found.append(Target(name, value.median, bound, at_least, value))
        else:
            found.append(Target(name, float(value), bound, at_least))

    calls, streams = figures.get("saturation", {}), figures.get("streams", {})
    latency, growth = figures.get("latency", {}), figures.get("growth", {})
    rate, core = "calls_per_s", "calls_per_work_cpu_s"
    add("calls a CPU second of the worker / of the SDK", 0.9, lambda: _ratio(calls, core, ONE, SDK))
    add("calls a CPU second of the worker / of the proxy", 3, lambda: _ratio(calls, core, ONE, PROXY))
    add("calls/s, one worker / SDK", 0.9, lambda: _ratio(calls, rate, ONE, SDK))
    add("calls/s, one worker / proxy", 3, lambda: _ratio(calls, rate, ONE, PROXY))
    add("calls/s, two workers / one", 1.8, lambda: _ratio(calls, rate, TWO, ONE))
    shares = figures.get("shares", {})
    add("the same, each worker held to a third of a core", 1.8, lambda: _ratio(shares, rate, TWO, ONE))
    add(
        "added latency p50 at 1 in flight / SDK's call", 0.5,
        lambda: latency[ONE]["added_p50_ms_at_1"] / latency[SDK]["p50_ms_at_1"], at_least=False,
    )  # fmt: skip
    chunks, chunk_core = "chunks_per_s", "chunks_per_work_cpu_s"
    add("chunks a CPU second of the worker / of the SDK", 0.9, lambda: _ratio(streams, chunk_core, ONE, SDK))
    add("chunks/s, one worker / SDK", 0.9, lambda: _ratio(streams, chunks, ONE, SDK))
    add(
        "memory at 5,000 calls in flight / idle", 2,
        lambda: figures["in_flight"][ONE]["work_mb_at_5000"] / figures["in_flight"][ONE]["work_mb_idle"],
        at_least=False,
    )  # fmt: skip
    add("exponent of cost against load", 1.05, lambda: growth[ONE]["exponent"], at_least=False)
    add(
        "client CPU a result awaited, of 10,000, in ms", 0.5,
        lambda: figures["backlog"][ONE]["awaiting_10000"]["client_cpu_ms_to_await"], at_least=False,
    )  # fmt: skip
    return found


def print_targets(found: Sequence[Target]) -> None:
    """One line each: of pairs of rounds the median ratio, and its interval of 95 %."""
    print("\nRatios")
    for target in found:
        aim = f"{'≥' if target.at_least else '≤'} {target.bound:g}"
        shown = str(target.ratio) if target.ratio else f"{target.value:.2f}"
        print(f"  {target.name:<52} {shown:<24} {aim:<8} {'met' if target.met else 'MISSED'}")


def print_figures(name: str, figures: Figures) -> None:
    """A table with a column for each contender; of several rounds the median, and the range."""
    print(f"\n{name}")
    for contender, values in figures.items():
        print(f"  {contender}")
        _print_values(values, "    ")


def _print_values(values: Mapping[str, Any], indent: str) -> None:
    for key, value in values.items():
        if isinstance(value, dict) and "median" in value:
            shown = f"{value['median']:10.2f}   ({value['min']:.2f} to {value['max']:.2f})"
        elif isinstance(value, dict):
            print(f"{indent}{key}")
            _print_values(value, indent + "  ")
            continue
        else:
            shown = f"{value:10.2f}"
        print(f"{indent}{key:<36}{shown}")


def _ratio(figures: Figures, key: str, first: str, second: str) -> Ratio:
    return paired_ratio(figures[first][key]["rounds"], figures[second][key]["rounds"])
