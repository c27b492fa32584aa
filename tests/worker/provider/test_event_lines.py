"""Lines of a stream are cut where server-sent events cut them, wherever the network cuts the text."""

import re
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from rustic_ai.llm_queue.worker.provider.answers.sse_lines import EventLines

texts = st.text(alphabet=st.sampled_from("ab\r\n\u2028\u2029\x85\x0b\x0c\x1e"), max_size=40)


def _read(pieces: list[str]) -> list[str]:
    lines = EventLines()
    return [line for piece in pieces if piece for line in lines.decode(piece)] + lines.flush()


@given(texts, st.lists(st.integers(0, 40), max_size=5))
def test_cuts_of_the_network_do_not_show(text: str, cuts: list[int]) -> None:
    at = [0, *sorted(min(cut, len(text)) for cut in cuts), len(text)]
    pieces = [text[start:end] for start, end in pairwise(at)]
    expected = re.split(r"\r\n|\r|\n", text)
    if expected[-1] == "":
        expected.pop()
    assert _read(pieces) == expected


def test_a_line_may_hold_every_other_separator() -> None:
    line = 'data: {"text": "a\u2028b\u2029c\x85d"}'
    assert _read([f"{line}\n\n", line]) == [line, "", line]
