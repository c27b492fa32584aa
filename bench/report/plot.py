"""The plot: calls and chunks per CPU second of the process that runs LiteLLM, as bars."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from bench.report.figures import Figures

_WIDTH, _LABEL, _BAR, _STEP = 760, 190, 420, 26
_PANELS = (
    ("saturation", "calls_per_work_cpu_s", "Calls a CPU second of LiteLLM's process"),
    ("streams", "chunks_per_work_cpu_s", "Chunks a CPU second of LiteLLM's process"),
)
_NO_LLM = "Celery, no-op"


def draw(figures: Mapping[str, Figures]) -> str:
    """An SVG that reads on a light and on a dark page."""
    parts: list[str] = []
    y = 10
    for measure, key, title in _PANELS:
        if measure in figures:
            y = _panel(parts, figures[measure], key, title, y)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {y}" '
        'font-family="system-ui, sans-serif" font-size="13">\n'
        f'<rect width="{_WIDTH}" height="{y}" rx="8" fill="#ffffff"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )


def _panel(parts: list[str], figures: Figures, key: str, title: str, y: int) -> int:
    rows = [(name, values[key]) for name, values in figures.items() if name != _NO_LLM]
    rows.sort(key=lambda row: -row[1]["median"])
    scale = _BAR / max(value["max"] for _, value in rows)
    parts.append(f'<text x="16" y="{y + 18}" font-weight="600" fill="#1f2328">{escape(title)}</text>')
    y += 32
    for name, value in rows:
        color = "#0969da" if name.startswith("llm-queue") else "#8c959f"
        low, high = (_LABEL + value[end] * scale for end in ("min", "max"))
        middle = y + 9
        parts += [
            f'<text x="{_LABEL - 10}" y="{y + 14}" text-anchor="end" fill="#1f2328">{escape(name)}</text>',
            f'<rect x="{_LABEL}" y="{y}" width="{value["median"] * scale:.1f}" height="18" fill="{color}"/>',
            f'<line x1="{low:.1f}" x2="{high:.1f}" y1="{middle}" y2="{middle}" stroke="#1f2328"/>',
            f'<text x="{high + 8:.1f}" y="{y + 14}" fill="#1f2328">{value["median"]:,.0f}</text>',
        ]
        y += _STEP
    return y + 14
