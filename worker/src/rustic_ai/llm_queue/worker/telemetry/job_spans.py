from __future__ import annotations

import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import CallKind
from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Answered, Expired, Failed, Outcome

from ..jobs.observers import Observer

if TYPE_CHECKING:
    from opentelemetry.context import Context
    from opentelemetry.trace import Span, Tracer

    from ..jobs.execution import Execution

_NANO = 1_000_000_000
#: The conventions' names for what is asked of a model.
_OPERATIONS = {CallKind.CHAT: "chat", CallKind.EMBEDDING: "embeddings"}
#: LiteLLM's names where the GenAI conventions have another.
_PROVIDERS = {
    "azure": "azure.ai.openai",
    "azure_ai": "azure.ai.inference",
    "bedrock": "aws.bedrock",
    "cohere_chat": "cohere",
    "gemini": "gcp.gemini",
    "mistral": "mistral_ai",
    "vertex_ai": "gcp.vertex_ai",
    "watsonx": "ibm.watsonx.ai",
    "xai": "x_ai",
}
#: The conventions' names for parameters of a call.
_PARAMETERS = {
    "dimensions": "gen_ai.embeddings.dimension.count",
    "temperature": "gen_ai.request.temperature",
    "top_p": "gen_ai.request.top_p",
    "max_tokens": "gen_ai.request.max_tokens",
    "max_completion_tokens": "gen_ai.request.max_tokens",
    "frequency_penalty": "gen_ai.request.frequency_penalty",
    "presence_penalty": "gen_ai.request.presence_penalty",
    "top_k": "gen_ai.request.top_k",
    "seed": "gen_ai.request.seed",
    "n": "gen_ai.request.choice.count",
}


class JobSpans(Observer):
    """Makes spans of what a worker's jobs were: one for the run, one for each provider call in it.

    Spans are made when a run is over, with the times at which things were. They carry
    names and numbers, by OpenTelemetry's conventions for messaging and generative AI, and no text.
    """

    def __init__(self, tracer: Tracer) -> None:
        self._tracer = tracer

    def run_ended(self, execution: Execution) -> None:
        if execution.record is None:
            return
        from opentelemetry.trace import SpanKind, set_span_in_context

        parent = self._parent(execution.record.job.traceparent)
        queue = execution.record.job.queue
        span = self._tracer.start_span(
            f"process {queue}",
            context=parent,
            kind=SpanKind.CONSUMER,
            start_time=execution.began_ns,
            attributes=_run_attributes(execution, execution.record),
        )
        for attempt in execution.new_attempts:
            self._attempt(execution, attempt, set_span_in_context(span, parent))
        if execution.outcome is not None:
            _fail(span, _error(execution.outcome))
        span.end(time.time_ns())

    def _parent(self, traceparent: str) -> Context:
        from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

        # Without a valid parent the span is the first of its trace.
        return TraceContextTextMapPropagator().extract({"traceparent": traceparent})

    def _attempt(self, execution: Execution, attempt: AttemptRecord, parent: Context) -> None:
        from opentelemetry.trace import SpanKind

        ended_ns = execution.attempts.ended_ns.get(attempt.number)
        if ended_ns is None or attempt.run_time_s is None:
            # Lost with another worker: nothing is known of its times.
            return
        # Its run time is rounded, and of another clock: it did not begin before its job.
        began_ns = max(execution.began_ns, ended_ns - round(attempt.run_time_s * _NANO))
        span = self._tracer.start_span(
            f"{_operation(execution)} {attempt.model}",
            context=parent,
            kind=SpanKind.CLIENT,
            start_time=began_ns,
            attributes=_attempt_attributes(execution, attempt),
        )
        if execution.first_token_ns is not None and began_ns <= execution.first_token_ns <= ended_ns:
            waited_s = (execution.first_token_ns - began_ns) / _NANO
            span.set_attribute("gen_ai.response.time_to_first_chunk", waited_s)
        _fail(span, attempt.error.value if attempt.error else None)
        span.end(ended_ns)


def _run_attributes(execution: Execution, record: JobRecord) -> dict[str, Any]:
    job, outcome = record.job, execution.outcome
    attributes = {
        "messaging.system": "celery",
        "messaging.operation.name": "process",
        "messaging.operation.type": "process",
        "messaging.destination.name": job.queue,
        "messaging.message.id": execution.job_id,
        "gen_ai.request.model": job.model,
        "gen_ai.agent.id": job.owner.agent,
        "llm_queue.org": job.owner.org,
        "llm_queue.guild": job.owner.guild,
        "llm_queue.worker": execution.worker,
        "llm_queue.outcome": outcome.kind if outcome else "given back",
        "llm_queue.attempts": len(execution.attempts.records),
    }
    if outcome is not None:
        attributes["llm_queue.queue_wait_s"] = outcome.account.queue_wait_s
        if outcome.account.cost_usd is not None:
            attributes["llm_queue.cost_usd"] = outcome.account.cost_usd
    return attributes


def _attempt_attributes(execution: Execution, attempt: AttemptRecord) -> dict[str, Any]:
    attributes: dict[str, Any] = {
        "gen_ai.operation.name": _operation(execution),
        "gen_ai.provider.name": _provider(attempt.model),
        "gen_ai.request.model": attempt.model,
        "llm_queue.attempt": attempt.number,
        "llm_queue.attempt.status": attempt.status,
    }
    if execution.call is not None:
        attributes |= _parameters(execution.call.params)
        if execution.call.stream:
            attributes["gen_ai.request.stream"] = True
    if attempt.provider_status is not None:
        attributes["http.response.status_code"] = attempt.provider_status
    if isinstance(execution.outcome, Answered) and attempt.status == "ok":
        attributes |= _answer_attributes(execution.outcome)
    return attributes


def _operation(execution: Execution) -> str:
    return _OPERATIONS[execution.record.job.kind if execution.record else CallKind.CHAT]


def _parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    found = {theirs: params[ours] for ours, theirs in _PARAMETERS.items() if params.get(ours) is not None}
    return {name: value for name, value in found.items() if isinstance(value, int | float)}


def _answer_attributes(outcome: Answered) -> dict[str, Any]:
    response, account = outcome.response, outcome.account
    reasons = [str(choice.get("finish_reason")) for choice in response.get("choices") or ()]
    known = {
        "gen_ai.response.id": response.get("id"),
        "gen_ai.response.model": response.get("model"),
        "gen_ai.response.finish_reasons": reasons or None,
        "gen_ai.usage.input_tokens": account.prompt_tokens,
        "gen_ai.usage.output_tokens": account.completion_tokens,
        "gen_ai.usage.cache_read.input_tokens": account.cached_tokens,
        "gen_ai.usage.reasoning.output_tokens": account.reasoning_tokens,
        "llm_queue.cost_usd": account.cost_usd,
    }
    return {name: value for name, value in known.items() if value is not None}


def _provider(model: str) -> str:
    from ..provider.targets.worker_keys import provider_of

    provider = provider_of(model) or "unknown"
    return _PROVIDERS.get(provider, provider)


def _error(outcome: Outcome) -> str | None:
    match outcome:
        case Failed(error=envelope):
            return envelope.kind.value
        case Expired():
            return "deadline"
        case _:
            return None


def _fail(span: Span, error: str | None) -> None:
    from opentelemetry.trace import StatusCode

    if error is not None:
        span.set_attribute("error.type", error)
        span.set_status(StatusCode.ERROR)
