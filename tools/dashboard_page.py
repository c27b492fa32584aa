"""The Grafana dashboard's panels as a page of our own, from what Prometheus answers to their queries."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from panel_chart import COLOURS, Frame, Line, chart, shown, sparkline

#: Asks Prometheus: the series of a query over the time shown.
Ask = Callable[[str], list[dict[str, Any]]]

COLUMN, ROW = 61, 35
_GAP, _TITLE, _LEGEND_LINE = 8, 30, 15
_STYLE = """
body { margin: 0; background: #111217; color: #ccccdc; font: 13px "DejaVu Sans", sans-serif; }
#page { position: relative; }
section { position: absolute; box-sizing: border-box; background: #181b1f; border: 1px solid #2c3235;
          border-radius: 3px; overflow: hidden; }
h1 { position: absolute; margin: 0; font-size: 16px; font-weight: 600; }
h2 { margin: 7px 10px 5px; font-size: 13px; font-weight: 600; height: 18px; white-space: nowrap; }
.legend { margin: 2px 8px; line-height: 15px; font-size: 10px; color: #a5a7b5; }
.legend span { margin-right: 9px; white-space: nowrap; display: inline-block; }
.legend i { display: inline-block; width: 10px; height: 3px; margin-right: 4px; vertical-align: middle; }
.stat { position: absolute; left: 12px; top: 36px; font-size: 34px; font-weight: 600; }
section > svg { display: block; }
.spark svg { position: absolute; left: 0; bottom: 0; }
footer { position: absolute; left: 8px; font-size: 12px; color: #8e8ea0; }
text { fill: #8e8ea0; font-size: 10.5px; }
.grid { stroke: #26292e; }
"""


def page(panels: Sequence[Mapping[str, Any]], ask: Ask, *, times: Mapping[str, float], caption: str) -> str:
    """A page of these panels of a dashboard, where the dashboard has them.

    Args:
        panels: as in the dashboard's JSON.
        times: `start_s`, `end_s` and `step_s` of what is shown.
        caption: a line below them.
    """
    first = min(panel["gridPos"]["y"] for panel in panels)
    end = max(panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels)
    drawn = "".join(_panel(panel, ask, first, times) for panel in panels)
    height = (end - first) * ROW
    return (
        f'<!DOCTYPE html><meta charset="utf-8"><style>{_STYLE}</style>'
        f'<div id="page" style="width:{24 * COLUMN + _GAP}px;height:{height + 30}px">{drawn}'
        f'<footer style="top:{height + 6}px">{escape(caption)}</footer></div>'
    )


def _panel(panel: Mapping[str, Any], ask: Ask, first: int, times: Mapping[str, float]) -> str:
    place = panel["gridPos"]
    left, top = place["x"] * COLUMN + _GAP, (place["y"] - first) * ROW + _GAP
    width, height = place["w"] * COLUMN - _GAP, place["h"] * ROW - _GAP
    if panel["type"] == "row":
        return f'<h1 style="left:{left + 2}px;top:{top}px">{escape(panel["title"])}</h1>'
    lines = [line for target in panel["targets"] for line in _lines(target, ask)]
    draw = _stat if panel["type"] == "stat" else _chart
    box = f"left:{left}px;top:{top}px;width:{width}px;height:{height}px"
    inside = draw(panel["fieldConfig"]["defaults"], lines, width - 2, height, times)
    return f'<section style="{box}"><h2>{escape(panel["title"])}</h2>{inside}</section>'


def _lines(target: Mapping[str, Any], ask: Ask) -> list[Line]:
    found = []
    for series in ask(target["expr"]):
        name = target.get("legendFormat") or ""
        for label in re.findall(r"\{\{(.*?)\}\}", name):
            name = name.replace(f"{{{{{label}}}}}", series["metric"].get(label.strip(), ""))
        found.append(Line.of(name, series["values"]))
    return sorted(found, key=lambda line: line.name)


def _chart(
    field: Mapping[str, Any], lines: Sequence[Line], width: int, height: int, times: Mapping[str, float]
) -> str:
    entries = [
        f'<span><i style="background:{COLOURS[number % len(COLOURS)]}"></i>{escape(line.name)}</span>'
        for number, line in enumerate(lines)
    ]
    # About as wide as the names are, so that the chart leaves room for them.
    rows = min(1 + round(sum(6.2 * len(line.name) + 26 for line in lines) / (0.85 * width)), 6)
    frame = Frame(width, height - _TITLE - rows * _LEGEND_LINE - 8, **times)
    custom = field["custom"]
    stacked = custom["stacking"]["mode"] == "normal"
    drawn = chart(
        lines, frame, unit=field["unit"], stacked=stacked, opacity=max(custom["fillOpacity"], 5) / 100
    )
    return f'{drawn}<div class="legend">{"".join(entries)}</div>'


def _stat(
    field: Mapping[str, Any], lines: Sequence[Line], width: int, height: int, times: Mapping[str, float]
) -> str:
    values = [value for line in lines for _, value in line.points[-1:]]
    if not values:
        return '<div class="stat">No data</div>'
    colour = _threshold(values[-1], field["thresholds"]["steps"])
    frame = Frame(width, (height - _TITLE) // 2, **times)
    text = escape(shown(values[-1], field["unit"]))
    spark = sparkline(lines[-1], frame, colour)
    return f'<div class="stat" style="color:{colour}">{text}</div><div class="spark">{spark}</div>'


def _threshold(value: float, steps: Sequence[Mapping[str, Any]]) -> str:
    reached = [step["color"] for step in steps if step["value"] is None or value >= step["value"]]
    return {"green": "#73bf69", "orange": "#ff9830", "red": "#f2495c"}[reached[-1]]
