from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler
from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import Call, CompletionCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed, Outcome

from ..streams.order import Chunks, Restarted
from ..streams.tail import missing_chunk

WORKER = "in-memory"
#: Arguments by the tool's name; pairs where a tool is called twice.
ToolCalls = Mapping[str, Mapping[str, Any]] | Iterable[tuple[str, Mapping[str, Any]]]
#: A text, or the pieces in which a stream brings it.
Content = str | Sequence[str]
_WORD = re.compile(r"(?:\A\s+)?\S+\s*")


@dataclass(frozen=True)
class Reply:
    """What becomes of one call."""

    #: How its job ends; None when no worker ever takes it.
    outcome: Outcome | None
    #: What its stream brings before the end.
    events: tuple[Chunks | Restarted, ...] = ()
    #: The number of events after which the provider keeps silent until it is released.
    hold_after: int | None = None

    @classmethod
    def of(cls, outcome: Outcome | None, said: Content | None = None) -> Reply:
        """A reply whose stream brings the answer's text in pieces, by default word by word."""
        if not isinstance(outcome, Answered):
            return cls(outcome, tuple(_text_events(said)))
        return cls(outcome, tuple(_answer_events(outcome.response, said)))

    def held(self, after: int) -> Reply:
        """The same, held after so many of the stream's pieces."""
        return replace(self, hold_after=after)

    def after_restart(self, void: Content) -> Reply:
        """The same as a second attempt, after one that broke off with the text `void`."""
        assert isinstance(self.outcome, Answered)
        model, account = self.outcome.model, self.outcome.account
        lost = _attempt(model, status="failed", error=ErrorKind.CONNECTION)
        attempts = (lost, *(one.model_copy(update={"number": 2}) for one in account.attempts))
        outcome = self.outcome.model_copy(
            update={"account": account.model_copy(update={"attempts": attempts})}
        )
        events = (*_text_events(void), Restarted(ErrorKind.CONNECTION, model), *self.events)
        return replace(self, outcome=outcome, events=events)


def answered(
    call: CompletionCall,
    content: str | None,
    *,
    tool_calls: ToolCalls | None = None,
    finish_reason: str | None = None,
    usage: Mapping[str, Any] | None = None,
    cost_usd: float | None = None,
) -> Answered:
    """The outcome of an answered call."""
    message: dict[str, Any] = {"role": "assistant", "content": content}
    if tool_calls:
        message["tool_calls"] = _tool_calls(tool_calls)
    reason = finish_reason or ("tool_calls" if tool_calls else "stop")
    counts = {"prompt_tokens": 0, "completion_tokens": 0, **(usage or {})}
    counts.setdefault("total_tokens", counts["prompt_tokens"] + counts["completion_tokens"])
    response = {
        "id": f"chatcmpl-{uuid.uuid4()}",
        "object": "chat.completion",
        "created": int(time.time()),
        # As providers call themselves: without LiteLLM's prefix.
        "model": call.model.partition("/")[2] or call.model,
        "choices": [{"index": 0, "finish_reason": reason, "message": message}],
        "usage": counts,
    }
    account = Account(
        attempts=(_attempt(call.model, status="ok"),),
        worker=WORKER,
        cost_usd=cost_usd,
        prompt_tokens=counts["prompt_tokens"],
        completion_tokens=counts["completion_tokens"],
        cached_tokens=(counts.get("prompt_tokens_details") or {}).get("cached_tokens"),
        reasoning_tokens=(counts.get("completion_tokens_details") or {}).get("reasoning_tokens"),
    )
    return Answered(account=account, model=call.model, response=response)


def failed(
    call: Call,
    kind: ErrorKind,
    message: str,
    *,
    provider_status: int | None = None,
    retry_after_s: float | None = None,
) -> Failed:
    """The outcome of a call that failed for good."""
    if provider_status is None:
        provider_status = kind.status
    attempt = _attempt(call.model, status="failed", error=kind, provider_status=provider_status)
    error = ErrorEnvelope(
        kind=kind,
        message=message,
        model=call.model,
        provider_status=provider_status,
        retry_after_s=retry_after_s,
    )
    attempts = (attempt,) if kind.sent else ()
    return Failed(account=Account(attempts=attempts, worker=WORKER), error=error)


def _attempt(model: str, **facts: Any) -> AttemptRecord:
    return AttemptRecord(**{"number": 1, "epoch": 1, "model": model, "run_time_s": 0.0, **facts})


def _tool_calls(calls: ToolCalls) -> list[dict[str, Any]]:
    pairs = calls.items() if isinstance(calls, Mapping) else calls
    return [
        {"id": f"call_{at}", "type": "function", "function": {"name": name, "arguments": json.dumps(args)}}
        for at, (name, args) in enumerate(pairs)
    ]


def _pieces(said: Content) -> Sequence[str]:
    return _WORD.findall(said) if isinstance(said, str) else said


def _text_events(said: Content | None) -> list[Chunks]:
    return [Chunks([_chunk({}, 0, piece)]) for piece in _pieces(said or ())]


def _answer_events(response: dict[str, Any], said: Content | None) -> list[Chunks]:
    whole = missing_chunk(AnswerAssembler(), response)
    assert whole is not None
    head = {name: value for name, value in whole.items() if name in ("id", "created", "model")}
    events = []
    for choice in whole["choices"]:
        content = choice["delta"].pop("content", None) or ""
        pieces = _pieces(content if said is None or choice["index"] else said)
        events += [Chunks([_chunk(head, choice["index"], piece)]) for piece in pieces]
    return [*events, Chunks([whole])]


def _chunk(head: Mapping[str, Any], index: int, text: str) -> dict[str, Any]:
    entry = {"index": index, "delta": {"content": text}, "finish_reason": None}
    return {**head, "object": "chat.completion.chunk", "choices": [entry]}
