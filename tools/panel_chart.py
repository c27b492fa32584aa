"""One panel's chart, from what Prometheus answers."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

COLOURS = (
    *("#73bf69", "#f2cc0c", "#5794f2", "#ff780a", "#f2495c", "#b877d9", "#37a2a8"),
    *("#c4a484", "#c0d8ff", "#96d98d", "#ffb357", "#ffa6b0", "#8f3bb8", "#a0a4ad"),
)
_LEFT, _RIGHT, _TOP, _BOTTOM = 58, 10, 8, 20
_TICKS = 4


@dataclass(frozen=True)
class Line:
    """A series under the name that the legend gives it."""

    name: str
    #: Unix time in seconds, and the value.
    points: Sequence[tuple[float, float]]

    @classmethod
    def of(cls, name: str, values: Sequence[tuple[float, str]]) -> Line:
        """From Prometheus' own form; what is no number has no point."""
        return cls(name, [(at, float(value)) for at, value in values if math.isfinite(float(value))])


@dataclass(frozen=True)
class Frame:
    """Where a chart lies: its size in pixels, the time it shows, and the seconds between two points."""

    width: int
    height: int
    start_s: float
    end_s: float
    step_s: float

    def x(self, at_s: float) -> float:
        inner = self.width - _LEFT - _RIGHT
        return _LEFT + inner * (at_s - self.start_s) / (self.end_s - self.start_s)

    def y(self, value: float, top: float) -> float:
        return self.height - _BOTTOM - (self.height - _TOP - _BOTTOM) * value / top


def shown(value: float, unit: str) -> str:
    """A value as people read it."""
    match unit:
        case "percentunit":
            return f"{value * 100:.3g}%"
        case "s":
            return f"{value * 1000:.3g} ms" if 0 < value < 1 else f"{value:.3g} s"
        case "bytes":
            return f"{value / 2**20:.4g} MiB"
        case "currencyUSD":
            return f"${value:.2f}" if value == 0 or value >= 0.1 else f"${value:.2g}"
        case "ops":
            return f"{value:.3g}/s"
    return f"{value:,.0f}" if value >= 100 or value == int(value) else f"{value:.3g}"


def chart(lines: Sequence[Line], frame: Frame, *, unit: str, stacked: bool, opacity: float) -> str:
    """Lines over time as SVG, on top of each other when they are `stacked`."""
    floors: dict[float, float] = {}
    drawn: list[str] = []
    raised = [_raised(line, floors) if stacked else _flat(line) for line in lines]
    scale = 2**20 if unit == "bytes" else 1
    top = _round_up(max((high for line in raised for _, _, high in line), default=1.0) / scale) * scale
    for number, points in reversed(list(enumerate(raised))):
        colour = COLOURS[number % len(COLOURS)]
        for run in _runs(points, frame.step_s):
            drawn.append(_area(run, frame, top, colour, opacity))
            drawn.append(_path(run, frame, top, colour))
    return (
        f'<svg width="{frame.width}" height="{frame.height}">{_axes(frame, top, unit)}{"".join(drawn)}</svg>'
    )


def sparkline(line: Line, frame: Frame, colour: str) -> str:
    """One line without axes, from zero to its highest point."""
    points = _flat(line)
    top = max((high for _, _, high in points), default=0.0) or 1.0

    def at(moment: float, value: float) -> str:
        x = frame.width * (moment - frame.start_s) / (frame.end_s - frame.start_s)
        return f"{x:.1f},{frame.height - 1 - (frame.height - 2) * value / top:.1f}"

    drawn = []
    for run in _runs(points, frame.step_s):
        path = " ".join(at(moment, high) for moment, _, high in run)
        floor = f"{at(run[-1][0], 0)} {at(run[0][0], 0)}"
        drawn.append(f'<polygon points="{path} {floor}" fill="{colour}" opacity="0.2"/>')
        drawn.append(f'<polyline points="{path}" fill="none" stroke="{colour}"/>')
    return f'<svg width="{frame.width}" height="{frame.height}">{"".join(drawn)}</svg>'


#: Time, the lower and the upper edge of its area.
_Point = tuple[float, float, float]


def _flat(line: Line) -> list[_Point]:
    return [(at, 0.0, value) for at, value in line.points]


def _raised(line: Line, floors: dict[float, float]) -> list[_Point]:
    points = []
    for at, value in line.points:
        floor = floors.get(at, 0.0)
        floors[at] = floor + value
        points.append((at, floor, floor + value))
    return points


def _runs(points: Sequence[_Point], step_s: float) -> list[list[_Point]]:
    """The points between two gaps."""
    runs: list[list[_Point]] = []
    for point in points:
        if runs and point[0] - runs[-1][-1][0] <= 1.5 * step_s:
            runs[-1].append(point)
        else:
            runs.append([point])
    return runs


def _area(run: Sequence[_Point], frame: Frame, top: float, colour: str, opacity: float) -> str:
    upper = [f"{frame.x(at):.1f},{frame.y(high, top):.1f}" for at, _, high in run]
    lower = [f"{frame.x(at):.1f},{frame.y(low, top):.1f}" for at, low, _ in reversed(run)]
    return f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="{opacity:g}"/>'


def _path(run: Sequence[_Point], frame: Frame, top: float, colour: str) -> str:
    points = " ".join(f"{frame.x(at):.1f},{frame.y(high, top):.1f}" for at, _, high in run)
    return f'<polyline points="{points}" fill="none" stroke="{colour}" stroke-width="1.5"/>'


def _axes(frame: Frame, top: float, unit: str) -> str:
    drawn = []
    for tick in range(_TICKS + 1):
        y = frame.y(top * tick / _TICKS, top)
        drawn.append(
            f'<line class="grid" x1="{_LEFT}" x2="{frame.width - _RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>'
        )
        label = escape(shown(top * tick / _TICKS, unit))
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4:.1f}" text-anchor="end">{label}</text>')
    every_s = 30 if frame.end_s - frame.start_s <= 240 else 60
    moment = math.ceil(frame.start_s / every_s) * every_s
    while moment <= frame.end_s:
        x = frame.x(moment)
        at = time.strftime("%H:%M:%S", time.gmtime(moment))
        if x > _LEFT + 20 and x < frame.width - 30:
            drawn.append(f'<text x="{x:.1f}" y="{frame.height - 5}" text-anchor="middle">{at}</text>')
        moment += every_s * (1 if frame.width > 400 else 2)
    return "".join(drawn)


def _round_up(value: float) -> float:
    """The next value above that divides well into ticks."""
    if value <= 0:
        return 1.0
    unit = 10.0 ** math.floor(math.log10(value))
    return next(step * unit for step in (1, 1.2, 1.6, 2, 2.4, 3.2, 4, 6, 8, 10) if step * unit >= value)
