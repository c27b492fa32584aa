"""Records for people: a table where the terminal is wide enough for it, else a few lines for each."""

from __future__ import annotations

from collections.abc import Sequence

from rich.console import Group, RenderableType
from rich.measure import Measurement
from rich.table import Table
from rich.text import Text

from rustic_ai.llm_queue.tasks.privacy.printable import printable

from .output import cell, out


def listing(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """`rows` under `title`. The first two columns tell a record from the others."""
    if not rows:
        return Text(title)
    table = Table(title=title, title_justify="left")
    for name in columns:
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*map(cell, row))
    fits = Measurement.get(out, out.options.update(width=10_000), table).maximum <= out.width
    return table if fits else _lines(title, columns, rows)


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something, with the noun in its number."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _lines(title: str, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> RenderableType:
    """What a record is, then what is known of it: indented, one to a line, so that it can be copied."""
    lines = [Text(title)]
    for row in rows:
        first, second, *rest = map(printable, row)
        lines.append(Text.assemble((first, "bold"), f"  {second}", overflow="fold"))
        named = [f"{name}: {value}" for name, value in zip(columns[2:], rest, strict=True) if value]
        lines += [Text(f"  {one}", overflow="fold") for one in named]
    return Group(*lines)
