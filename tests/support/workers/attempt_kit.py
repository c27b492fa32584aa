"""The attempts of one job, run in the test's own process against the provider simulator."""

import asyncio
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.call import CompletionCall, Endpoint
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.errors import ErrorEnvelope
from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.worker.provider.litellm_api.setup import load_litellm
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.providers.provider import ProviderStub

load_litellm(WorkerSettings())

from rustic_ai.llm_queue.worker.admission.gate import NextCall, Refused  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.attempts.answer import Answer, AttemptsFailed  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.attempts.attempts import attempt_all  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.attempts.log import AttemptLog  # noqa: E402 - LiteLLM's environment comes first
from rustic_ai.llm_queue.worker.provider.provider import Provider  # noqa: E402 - as above
from rustic_ai.llm_queue.worker.provider.targets.credentials import Target  # noqa: E402 - as above

#: One model of each provider the simulator speaks for.
MODELS = {
    "openai": "openai/gpt-4o",
    "azure": "azure/gpt-4o",
    "anthropic": "anthropic/claude-sonnet-4-5",
    "gemini": "gemini/gemini-2.5-flash",
    "huggingface": "huggingface/meta-llama/Llama-3-8B",
    "cohere": "cohere/command-r-plus",
}


class Parked(Exception):
    """The job waits for its next attempt with the ledger."""


@dataclass
class NotedJournal:
    """Notes what is put on record, and may refuse it as a ledger does when the lease is lost."""

    provider: ProviderStub | None = None
    refuse: Exception | None = None
    begun: list[int] = field(default_factory=list)
    ended: list[tuple[AttemptRecord, ...]] = field(default_factory=list)
    #: Models no call may be sent to, and the models that were asked for.
    closed: dict[str, ErrorEnvelope] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    #: What answers took, and their headers about limits.
    answers: list[tuple[Usage, Mapping[str, str]]] = field(default_factory=list)
    #: What providers have refused, and the pauses that were left to the ledger.
    refusals: list[ErrorEnvelope] = field(default_factory=list)
    pauses: list[float] = field(default_factory=list)
    #: Requests the provider had seen when each attempt was put on record.
    seen: list[int] = field(default_factory=list)

    async def admit(self, call: NextCall) -> Refused | None:
        self.asked.append(call.target.model)
        error = self.closed.get(call.target.model)
        return None if error is None else Refused(error)

    async def note_answer(self, target: Target, usage: Usage, headers: Mapping[str, str]) -> None:
        self.answers.append((usage, headers))

    async def note_refusal(self, target: Target, failure: ErrorEnvelope) -> bool:
        self.refusals.append(failure)
        return False

    async def pause(self, delay_s: float, begun: int, ended: Sequence[AttemptRecord]) -> None:
        self.pauses.append(delay_s)
        raise Parked

    async def begin(self, number: int, ended: Sequence[AttemptRecord]) -> None:
        if self.refuse is not None:
            raise self.refuse
        self.begun.append(number)
        self.ended.append(tuple(ended))
        if self.provider is not None:
            self.seen.append(self.provider.stats()["served"])


@dataclass
class NotedSink:
    """What a reader of the stream ends up with."""

    chunks: list[dict[str, Any]] = field(default_factory=list)
    restarts: list[tuple[ErrorKind, str]] = field(default_factory=list)
    fail: Exception | None = None
    first: asyncio.Event = field(default_factory=asyncio.Event)

    async def chunk(self, chunk: dict[str, Any]) -> None:
        if self.fail is not None:
            raise self.fail
        self.chunks.append(json.loads(json.dumps(chunk)))
        if self.text():
            self.first.set()

    async def restart(self, reason: ErrorKind, model: str) -> None:
        self.restarts.append((reason, model))
        self.chunks.clear()

    def text(self, choice: int = 0, part: str = "content") -> str:
        """What has come of a choice."""
        deltas = [one["delta"] for chunk in self.chunks for one in chunk["choices"] if one["index"] == choice]
        return "".join(delta.get(part, "") for delta in deltas)


@dataclass
class Bench:
    """A provider simulator, and everything the attempts of one job need beside it."""

    stub: ProviderStub
    settings: WorkerSettings
    provider: Provider

    @classmethod
    def over(cls, stub: ProviderStub, **settings: Any) -> "Bench":
        """Settings as in production, but for short pauses."""
        defaults = {"retry_base": "40ms", "stream_idle": "500ms", "allowed_hosts": "127.0.0.1"}
        chosen = WorkerSettings(**defaults | settings)
        return cls(stub, chosen, Provider(chosen, dict(os.environ)))

    async def run(
        self,
        prompt: str,
        *models: str,
        log: AttemptLog | None = None,
        journal: NotedJournal | None = None,
        sink: NotedSink | None = None,
        timeout_s: float = 30.0,
        max_retries: int = 2,
        endpoint: Endpoint | None = None,
        **params: Any,
    ) -> Answer:
        """Ask `models`, the first one and its fallbacks."""
        call = CompletionCall(
            model=models[0] if models else MODELS["openai"],
            fallback_models=models[1:],
            params={"messages": [{"role": "user", "content": prompt}], **params},
            endpoint=endpoint or Endpoint(),
            max_retries=max_retries,
        )
        return await attempt_all(
            call,
            log=log or AttemptLog(epoch=1, begun=1),
            deadline_s=asyncio.get_running_loop().time() + timeout_s,
            provider=self.provider,
            settings=self.settings,
            journal=journal or NotedJournal(),
            sink=sink,
            org="org",
        )

    async def failure(self, *args: Any, **kwargs: Any) -> ErrorEnvelope:
        """The error that a run ends with."""
        try:
            answer = await self.run(*args, **kwargs)
        except AttemptsFailed as failed:
            return failed.envelope
        raise AssertionError(f"answered: {answer}")


def at_the_operators(stub: ProviderStub) -> Bench:
    """The simulator as an address of the operator's: what a tenant's own server takes has no price."""
    return Bench.over(stub, allowed_endpoints=f"openai={stub.base_url('openai')}")


def content(answer: Answer, choice: int = 0) -> str:
    """The text of an answer."""
    return answer.response["choices"][choice]["message"]["content"] or ""


def kinds(answer: Answer) -> list[str]:
    """How its attempts ended."""
    return [str(record.error or record.status) for record in answer.attempts]
