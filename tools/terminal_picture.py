"""A terminal's screen as a picture."""

from __future__ import annotations

import re
from io import StringIO
from pathlib import Path

from rich._export_format import CONSOLE_SVG_FORMAT
from rich.console import Console
from rich.text import Text

#: A picture fetches no fonts: the reader's own of one width will do.
_FORMAT = re.sub(r"@font-face \{\{.*?\}\}", "", CONSOLE_SVG_FORMAT, flags=re.DOTALL)


def save_terminal(screen: str, path: Path, *, title: str, columns: int) -> None:
    """Draw what a terminal of so many columns shows, colours included, as SVG.

    Raises `ValueError` when a line is longer than that.
    """
    text = Text.from_ansi(screen)
    longest = max(line.cell_len for line in text.split("\n"))
    if longest > columns:
        raise ValueError(f"a line has {longest} columns")
    console = Console(
        record=True, width=columns, file=StringIO(), force_terminal=True, color_system="truecolor"
    )
    # The last line is cut a little short below; an empty one has nothing to lose.
    console.print(text, "", sep="\n", highlight=False)
    svg = console.export_svg(title=title, code_format=_FORMAT, unique_id=path.stem)
    path.write_text(svg.rstrip() + "\n", encoding="utf-8")
