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
    return table if fits(table) else lines(title, columns, rows)


def fits(table: Table) -> bool:
    """Whether the terminal is wide enough for all of it."""
    return Measurement.get(out, out.options.update(width=10_000), table).maximum <= out.width


def counted(count: int, one: str, many: str = "") -> str:
    """So many of something, with the noun in its number."""
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def lines(
    title: str, columns: Sequence[str], rows: Sequence[Sequence[str]], *, head: int = 2
) -> RenderableType:
    """What a record is, its first `head` columns, then the others: indented, one to a line, to be copied."""
    shown = [Text(title)]
    for row in rows:
        first, *rest = map(printable, row)
        others = [f"  {one}" for one in rest[: head - 1] if one]
        shown.append(Text.assemble((first, "bold"), *others, overflow="fold"))
        named = zip(columns[head:], rest[head - 1 :], strict=True)
        shown += [Text(f"  {name}: {value}", overflow="fold") for name, value in named if value]
    return Group(*shown)
