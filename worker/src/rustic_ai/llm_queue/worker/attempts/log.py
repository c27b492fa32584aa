from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.usage import Usage

from ..provider.cost import cost_usd

if TYPE_CHECKING:
    from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler

    from ..provider.embeddings.refused_text import RefusedText
    from ..provider.targets.credentials import Target

_BYTES_PER_TOKEN = 4
_FAULT = 500


class AttemptLog:
    """What is known of a job's provider calls, readable at any moment, also after a cancel."""

    __slots__ = (
        "_records",
        "begun",
        "call_under_way",
        "ended_ns",
        "epoch",
        "model",
        "partial",
        "refused",
        "target",
    )

    def __init__(self, *, epoch: int, begun: int, ended: Sequence[AttemptRecord] = ()) -> None:
        """`begun` counts the first call of this claim too; `ended` are known from earlier claims."""
        self.epoch = epoch
        #: Number of the latest attempt.
        self.begun = begun
        #: A request has been sent and its answer is not all here.
        self.call_under_way = False
        #: The model of the latest attempt, and where it went.
        self.model: str | None = None
        self.target: Target | None = None
        #: What the latest attempt's stream has brought so far; None without a stream.
        self.partial: AnswerAssembler | None = None
        #: What the latest attempt brought of embeddings before a text was refused; None where none was.
        self.refused: RefusedText | None = None
        #: Unix time in nanoseconds at which attempts of this claim ended, by number.
        self.ended_ns: dict[int, int] = {}
        self._records = [record for record in ended if record.number < begun]

    @property
    def records(self) -> tuple[AttemptRecord, ...]:
        """The attempts whose end is known, in their order."""
        return tuple(sorted(self._records, key=lambda record: record.number))

    def add(self, record: AttemptRecord) -> None:
        """Put an attempt's end on record."""
        self.ended_ns[record.number] = time.time_ns()
        self._records.append(record)

    def may_be_its_own_fault(self, model: str, max_retries: int) -> bool:
        """Whether the next try is the last for `model`, and the one before failed as by a bad request.

        Some servers answer 500 to a text they do not like: a call that others share would fail for all.
        """
        failed = [record for record in self.records if record.model == model and record.status == "failed"]
        return len(failed) >= max(max_retries, 1) and failed[-1].provider_status == _FAULT

    def replace_last(self, record: AttemptRecord) -> None:
        """Put the latest record right, once it is known what follows it."""
        self._records[-1] = record

    def abandon(self) -> tuple[int, bool]:
        """Another worker goes on: how many calls were begun, and whether one of them was cut short.

        That one is lost: the provider may bill for it, and nobody has its answer.
        """
        last = next((record for record in self._records if record.number == self.begun), None)
        if last is None:
            return self.begun - 1, False
        if last.status not in ("cancelled", "ok"):
            return self.begun, False
        self._records[self._records.index(last)] = last.model_copy(update={"status": "lost"})
        return self.begun, True

    def missing(self) -> list[int]:
        """Attempts that began before this claim and of which nothing is known: lost with their worker."""
        known = {record.number for record in self._records}
        return [number for number in range(1, self.begun) if number not in known]

    def spent(self, estimated_prompt_tokens: int) -> Usage | None:
        """What the latest attempt counts for at its limits, if it has ended without an answer.

        A provider that refuses a call has read it at the most, and bills nothing. None where nothing is
        known: the call was cut off, and its provider may still be at work.
        """
        last = self._records[-1] if self._records else None
        if last is None or last.status != "failed" or last.provider_status is None:
            return None
        if last.full_tier is not None:
            return Usage(prompt_tokens=0, completion_tokens=0)
        usage = self.unanswered_usage(estimated_prompt_tokens=estimated_prompt_tokens)
        if usage.prompt_tokens is not None:
            return usage
        return Usage(prompt_tokens=estimated_prompt_tokens, completion_tokens=0, cost_usd=0.0)

    def unanswered_usage(self, *, estimated_prompt_tokens: int) -> Usage:
        """What the latest attempt has used, although it brought no answer.

        A provider bills for the text it has sent, but counts it only at a stream's end, which a
        stream that was cut off does not reach: its tokens are reckoned from the length of its text.
        """
        if self.refused is not None:
            return self.refused.usage
        if self.partial is None:
            return Usage()
        counted, streamed_bytes = Usage.of(self.partial.usage), self.partial.text_bytes
        if not streamed_bytes:
            return counted
        prompt_tokens = counted.prompt_tokens or estimated_prompt_tokens
        completion_tokens = max(counted.completion_tokens or 0, -(-streamed_bytes // _BYTES_PER_TOKEN))
        return counted.model_copy(
            update={
                "prompt_tokens": prompt_tokens,
                "completion_tokens": completion_tokens,
                "cost_usd": self._cost_usd(prompt_tokens, completion_tokens),
                "usage_estimated": True,
            }
        )

    def _cost_usd(self, prompt_tokens: int, completion_tokens: int) -> float | None:
        target = self.target
        if target is None:
            return None
        counts = {"prompt_tokens": prompt_tokens, "completion_tokens": completion_tokens}
        return cost_usd(
            str(target.options.get("model", target.model)),
            target.provider,
            counts,
            target.prices,
            target.service_tier,
        )
