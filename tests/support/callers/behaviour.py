"""One language for what becomes of a call, spoken to the queue in memory and to real parts alike.

A test scripts the provider's `Step`s. On real parts the provider's simulator plays them to a worker; in
memory they become what the worker would have made of them.
"""

import json
from collections.abc import Mapping
from typing import Any, Protocol

from rustic_ai.llm_queue.resolver import ErrorKind, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue, memory_queue
from support.providers.provider import ProviderStub, Step

MODEL = "openai/gpt-4o-mini"
#: USD a token, as LiteLLM's price map has it: input, cached input, output.
PRICES = (0.15e-6, 0.075e-6, 0.6e-6)
_KINDS = {
    400: ErrorKind.BAD_REQUEST,
    401: ErrorKind.AUTHENTICATION,
    429: ErrorKind.RATE_LIMIT,
    500: ErrorKind.INTERNAL_SERVER,
}


class Backend(Protocol):
    """Where a test's calls go."""

    def script(self, *steps: Step) -> None:
        """What becomes of the calls that follow, one step each; healthy answers come after that."""

    def fail(self, kind: ErrorKind, step: Step) -> None:
        """Have the next call fail so; `step` is what it takes at the provider."""

    def restart(self, void: str, text: str) -> None:
        """Have the next stream break off after `void`, and answer with `text` at its second attempt."""

    def release(self) -> None:
        """Let go what is held."""

    def asked(self) -> list[dict[str, Any]]:
        """What the model was asked, in order."""

    def llm(self, agent: str = "helper", **properties: Any) -> QueueLLM:
        """An agent's LLM."""

    def unattended(self, **properties: Any) -> QueueLLM:
        """An LLM whose next call no worker takes."""


def make_llm(agent: str, properties: Mapping[str, Any]) -> QueueLLM:
    """The LLM of an agent of one guild."""
    given = {"model": MODEL, "max_retries": 0, "timeout": 60.0, **properties}
    return QueueLLMResolver(**given).resolve("acme", "support", agent)


class MemoryBackend:
    """`memory://`: the process's own queue."""

    def __init__(self) -> None:
        self.queue: InMemoryQueue = memory_queue("memory://?otherwise=a+healthy+answer")

    def script(self, *steps: Step) -> None:
        for step in steps:
            if step.status >= 400:
                self.fail(_KINDS[step.status], step)
            else:
                self._answer(step)

    def fail(self, kind: ErrorKind, step: Step) -> None:
        status = step.status if step.status >= 400 else None
        said = " ".join((step.text or "").split()[: step.after_chunks]) if step.fault else None
        message = step.message or "as scripted"
        self.queue.fail(kind, message, provider_status=status, retry_after_s=step.retry_after_s, said=said)

    def restart(self, void: str, text: str) -> None:
        self.queue.answer(text, restarted_after=void)

    def release(self) -> None:
        self.queue.release()

    def asked(self) -> list[dict[str, Any]]:
        return [dict(call.params) for call in self.queue.calls]

    def llm(self, agent: str = "helper", **properties: Any) -> QueueLLM:
        return make_llm(agent, properties)

    def unattended(self, **properties: Any) -> QueueLLM:
        self.queue.hang()
        return self.llm(**properties)

    def _answer(self, step: Step) -> None:
        sent, said, cached = step.prompt_tokens or 0, step.completion_tokens or 0, step.cached_tokens
        cost = (sent - cached) * PRICES[0] + cached * PRICES[1] + said * PRICES[2]
        self.queue.answer(
            step.text or (None if step.tool_calls else "a healthy answer"),
            tool_calls=[(call.name, json.loads(call.arguments)) for call in step.tool_calls],
            finish_reason=step.finish_reason,
            usage={
                "prompt_tokens": sent,
                "completion_tokens": said,
                "prompt_tokens_details": {"cached_tokens": cached},
                "completion_tokens_details": {"reasoning_tokens": step.reasoning_tokens},
            },
            cost_usd=cost,
            # A slow stream is one that has not ended when the test has seen its beginning.
            hold_after=0 if step.hold else 2 if step.chunk_delay_s else None,
        )


class RedisBackend:
    """A real Valkey, a worker in a process of its own, and the provider's simulator."""

    def __init__(self, provider: ProviderStub) -> None:
        self._provider = provider

    def script(self, *steps: Step) -> None:
        self._provider.plan("*", *steps)

    def fail(self, kind: ErrorKind, step: Step) -> None:
        self.script(step)

    def restart(self, void: str, text: str) -> None:
        words = len(void.split())
        self.script(Step(text=f"{void} and more", fault="cut", after_chunks=words), Step(text=text))

    def release(self) -> None:
        self._provider.release("*")  # now and later: it may still be on its way

    def asked(self) -> list[dict[str, Any]]:
        return [dict(one.body) for one in self._provider.requests()]

    def llm(self, agent: str = "helper", **properties: Any) -> QueueLLM:
        return make_llm(agent, properties)

    def unattended(self, **properties: Any) -> QueueLLM:
        return self.llm(queue="nobody", **properties)
