from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from functools import cache
from typing import Any

from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from ..failures.classify import PolicyViolation
from ..litellm_api import seam

#: A tokenizer's time grows faster than a text that has no spaces: so it sees one of these at a time.
_PIECE_CHARACTERS = 2_000


async def fitting_texts(texts: Sequence[str], most_tokens: int | None, *, truncate: bool) -> Sequence[str]:
    """The texts as the model takes them.

    Args:
        most_tokens: of one text; None where nobody here can count them.
        truncate: cut what is too long.

    Raises `PolicyViolation` naming the first text that is too long, unless it is to be cut.
    """
    # No token is shorter than a byte: most texts need no counting.
    if most_tokens is None or all(len(text.encode()) <= most_tokens for text in texts):
        return texts
    return await asyncio.to_thread(_fitting, texts, most_tokens, truncate)


def _fitting(texts: Sequence[str], most_tokens: int, truncate: bool) -> list[str]:
    fitting = []
    for index, text in enumerate(texts):
        end = _end_of(text, most_tokens)
        if end is not None and not truncate:
            raise PolicyViolation(
                ErrorKind.CONTEXT_WINDOW,
                f"input[{index}]: the text has more than the {most_tokens:,} tokens that the model takes; "
                "split it, or set truncate",
            )
        fitting.append(text if end is None else text[:end])
    return fitting


def _end_of(text: str, most_tokens: int) -> int | None:
    """Where to cut the text so that it fits; None when it does. A cut may cost a piece's tokens too many."""
    counted, end = 0, 0
    for cuts, piece in enumerate(_pieces(text)):
        tokens = len(_encoding().encode_ordinary(piece))
        # At each cut between two pieces a token may have become two.
        if counted + tokens - cuts > most_tokens:
            return max(end, 1)
        counted += tokens
        end += len(piece)
    return None


def _pieces(text: str) -> Iterator[str]:
    for start in range(0, len(text), _PIECE_CHARACTERS):
        yield text[start : start + _PIECE_CHARACTERS]


@cache
def _encoding() -> Any:
    return seam.default_encoding()
