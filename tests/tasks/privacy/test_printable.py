"""Names and messages that would steer a terminal are shown as escapes, everywhere and in one way."""

import json
import re
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rustic_ai.llm_queue.tasks.privacy.printable import OF_PROSE, printable, printable_json
from support.documents.readme import ROOT

STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Zoë 東京 🙂 a\N{NO-BREAK SPACE}b", "Zoë 東京 🙂 a\N{NO-BREAK SPACE}b"),
        ("\x1b[2Jgone", r"\x1b[2Jgone"),
        ("\x9b2J", r"\x9b2J"),
        ("a\N{RIGHT-TO-LEFT OVERRIDE}b", r"a\u202eb"),
        ("a\nb\r", r"a\nb\r"),
        ("\udcaf\U000e0001", r"\udcaf\U000e0001"),
    ],
)
def test_what_is_shown(text: str, shown: str) -> None:
    assert printable(text) == shown


def test_prose_keeps_what_it_is_made_of() -> None:
    assert printable("one\n\ttwo\N{ZERO WIDTH NON-JOINER}\x07", keep=OF_PROSE) == (
        "one\n\ttwo\N{ZERO WIDTH NON-JOINER}\\x07"
    )


@given(st.text(st.characters()))
def test_nothing_steers(text: str) -> None:
    assert not STEERING & set(map(unicodedata.category, printable(text)))


_TEXT = st.text(st.characters())
_JSON = st.recursive(
    _TEXT | st.integers() | st.none(), lambda inner: st.lists(inner) | st.dictionaries(_TEXT, inner)
)


@given(_JSON)
def test_json_reads_the_same(value: object) -> None:
    shown = printable_json(value)
    assert json.loads(shown) == value
    assert not STEERING & set(map(unicodedata.category, shown.replace("\n", "")))


def test_commands_print_through_one_place_alone() -> None:
    """What prints past `output.py` calls the escaping function on the spot."""
    worker = ROOT / "worker" / "src" / "rustic_ai" / "llm_queue" / "worker"
    elsewhere = [
        line.strip()
        for folder in ("cli", "flower_app", "doctor")
        for path in sorted((worker / folder).rglob("*.py"))
        for line in path.read_text().splitlines()
        if path.name != "output.py" and re.search(r"click\.echo\(|Console\(|\bprint\(|sys\.stdout", line)
        if "out.print(" not in line and "notes.print(" not in line
    ]
    assert elsewhere == ['click.echo(printable(f"Flower is at {place}"), err=True)']
