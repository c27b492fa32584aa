"""Takes the picture of `make demo` that the README shows: part of `make screenshots`."""

from __future__ import annotations

import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.processes.terminal import TerminalProcess
from terminal_picture import save_terminal

COLUMNS, ROWS = 104, 60
#: A worker alone takes 10 s of processor time to start.
LONGEST_S = 240


def main() -> None:
    """Take it. Raises `AssertionError` when the demo fails."""
    # What the recipe of `make demo` runs.
    command = [sys.executable, str(ROOT / "examples" / "demo.py")]
    with TerminalProcess(command, columns=COLUMNS, rows=ROWS) as demo:
        screen = demo.read_all(LONGEST_S)
    save_terminal(screen, ROOT / "docs" / "images" / "demo.svg", title="make demo", columns=COLUMNS)


if __name__ == "__main__":
    main()
