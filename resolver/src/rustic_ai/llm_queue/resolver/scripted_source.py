from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from ..tasks.answer_assembly import AnswerAssembler
from ..tasks.outcome import Answered
from .outcome_source import OutcomeSource
from .remainder import missing_chunk
from .stream_order import Chunks
from .stream_source import CaughtUp, Ended, StreamEvent

_WORD = re.compile(r"\s*\S+\s*")


class ScriptedSource(OutcomeSource):
    """The stream of an answer that a test has scripted: word by word, whatever else there is at the end."""

    async def next(self, number: int) -> tuple[StreamEvent, ...]:
        outcome = await self._outcome()
        chunks = list(_chunks(outcome.response)) if isinstance(outcome, Answered) else []
        return CaughtUp(), Chunks(chunks), Ended(outcome)


def _chunks(response: dict[str, Any]) -> Iterator[dict[str, Any]]:
    whole = missing_chunk(AnswerAssembler(), response)
    assert whole is not None
    for choice in whole["choices"]:
        for word in _WORD.findall(choice["delta"].pop("content", None) or ""):
            piece = {"index": choice["index"], "delta": {"content": word}, "finish_reason": None}
            yield {**whole, "choices": [piece], "usage": None}
    yield whole
