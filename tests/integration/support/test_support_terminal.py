"""The terminal on which the pictures of commands are taken."""

import sys

import pytest

from support.processes.terminal import TerminalProcess, screen_after

RED, PLAIN = "\x1b[31m", "\x1b[0m"
SAYS = """
import sys
from rich.console import Console
from rich.live import Live

console = Console(highlight=False)
console.print("[red]first[/]")
with console.status("thinking"):
    console.print("second")
with Live("a screen of its own", console=console, screen=True):
    input()
console.print(f"{console.width} columns")
"""


@pytest.mark.parametrize(
    ("output", "screen"),
    [
        ("one\r\ntwo\r\n", "one\ntwo"),
        ("wait\r\x1b[2Kdone\r\n", "done"),
        (f"{RED}red{PLAIN}\r\nplain", f"{RED}red{PLAIN}\nplain"),
        ("one\r\ntwo\r\n\x1b[1A\x1b[2Kthree\r\n", "one\nthree"),
        ("before\r\n\x1b[?1049h\x1b[Hfirst\r\n\x1b[Hsecond\r\n", "second"),
        ("before\r\n\x1b[?1049h\x1b[Hfirst\x1b[?1049lafter", "before\nafter"),
    ],
)
def test_a_screen_is_what_the_output_leaves_on_it(output: str, screen: str) -> None:
    assert screen_after(output) == screen


def test_a_program_is_seen_as_it_runs_and_when_it_has_ended() -> None:
    with TerminalProcess([sys.executable, "-c", SAYS], columns=66, rows=10) as terminal:
        shown = terminal.read_until(lambda seen: "of its own" in seen, 20)
        assert "first" not in shown
        terminal.write("\n")
        ended = terminal.read_all(20)
    assert ended.split("\n") == [f"{RED}first{PLAIN}", "second", "66 columns"]


def test_a_program_that_fails_is_told() -> None:
    failing = TerminalProcess([sys.executable, "-c", "exit(3)"], columns=66, rows=10)
    with failing as terminal, pytest.raises(AssertionError, match="ended with 3"):
        terminal.read_until(lambda seen: "never" in seen, 20)
