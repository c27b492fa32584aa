from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, Self

from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Outcome

from ..client.port import EnginePort
from ..client.stand_in import stand_in
from .memory_engine import MemoryEngine
from .reply import Content, Reply, ToolCalls, answered, failed
from .vectors import VectorOf, embedded

#: What becomes of a call: a text is an answer, None leaves it waiting until its deadline.
Step = Callable[[CompletionCall], Outcome | str | None]

_NO_ANSWER = (
    "The in-memory queue has no answer left for this call. Script one before it, with `answer(...)` of the "
    "InMemoryQueue; with memory:// that is `rustic_ai.llm_queue.resolver.testing.memory_queue()`, in the "
    "agent's own process. `memory://?otherwise=some+text` answers every call."
)


class InMemoryQueue:
    """A queue that answers by a script. As a context manager, it serves every call of this process.

    The steps are taken in order, one a call. A call for which no step is left gets the text given
    as `otherwise`, or fails with an `InternalServerError` that says so.

    Attributes:
        calls: the calls submitted so far, in order.
        jobs: their jobs.
        cancelled: the ids of the jobs that were cancelled before they had ended.
        engine: what a `QueueLLM` talks to in place of Redis.
    """

    def __init__(self, *, otherwise: str | None = None) -> None:
        self.engine = MemoryEngine(self._reply_to)
        self.calls, self.jobs, self.cancelled = self.engine.calls, self.engine.jobs, self.engine.cancelled
        self._otherwise = otherwise
        self._vector_of: VectorOf | None = None
        self._script: deque[Callable[[CompletionCall], Reply]] = deque()
        self._previous: EnginePort | None = None

    def __enter__(self) -> Self:
        self.engine.start()
        self._previous = stand_in(self.engine)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        stand_in(self._previous)
        self.engine.stop()

    def answer(
        self,
        content: Content | None = None,
        *,
        tool_calls: ToolCalls | None = None,
        finish_reason: str | None = None,
        usage: Mapping[str, Any] | None = None,
        cost_usd: float | None = None,
        hold_after: int | None = None,
        restarted_after: Content | None = None,
    ) -> Self:
        """Script an answer.

        Args:
            content: a stream brings it word by word; given as a list, in these pieces.
            tool_calls: the arguments by the tool's name, or pairs of a name and arguments.
            finish_reason: None for `tool_calls` or `stop`, whichever fits.
            usage: token counts, as providers send them.
            hold_after: keep the call running until `release`, its stream after so many pieces.
            restarted_after: what a first attempt has streamed before it broke off.
        """
        text = content if isinstance(content, str | None) else "".join(content)
        # Once, so that a step of an iterator's tool calls can be taken as it stands.
        tools = list(tool_calls.items() if isinstance(tool_calls, Mapping) else tool_calls or ())

        def step(call: CompletionCall) -> Reply:
            outcome = answered(
                call, text, tool_calls=tools, finish_reason=finish_reason, usage=usage, cost_usd=cost_usd
            )
            reply = Reply.of(outcome, content)
            if restarted_after is not None:
                reply = reply.after_restart(restarted_after)
            return reply if hold_after is None else reply.held(hold_after)

        return self._add(step)

    def fail(
        self,
        kind: ErrorKind,
        message: str = "",
        *,
        provider_status: int | None = None,
        retry_after_s: float | None = None,
        said: Content | None = None,
    ) -> Self:
        """Script a failure, as the worker reports it when no retry and no fallback is left.

        Args:
            provider_status: the provider's HTTP status; None for the one that goes with the kind.
            said: what a stream has brought before.
        """
        return self._add(
            lambda call: Reply.of(
                failed(call, kind, message, provider_status=provider_status, retry_after_s=retry_after_s),
                said,
            )
        )

    def embed_with(self, vector_of: VectorOf) -> Self:
        """Let `vector_of` make the vectors of all texts; by default each text has one derived from it.

        A call fails with a `BadRequestError` where it raises `ValueError`.
        """
        self._vector_of = vector_of
        return self

    def hang(self) -> Self:
        """Script a call that no worker ever takes."""
        return self._add(lambda call: Reply(None))

    def reply(self, step: Step) -> Self:
        """Script an outcome that depends on the call."""

        def played(call: CompletionCall) -> Reply:
            said = step(call)
            return Reply.of(answered(call, said) if isinstance(said, str) else said)

        return self._add(played)

    def release(self) -> None:
        """Let every call go on that `hold_after` holds."""
        self.engine.call(self.engine.release)

    def reset(self) -> None:
        """Forget the script and all calls and jobs."""
        self._script.clear()
        self._vector_of = None
        self.engine.call(self.engine.forget)

    def _add(self, step: Callable[[CompletionCall], Reply]) -> Self:
        self._script.append(step)
        return self

    def _reply_to(self, call: Call) -> Reply:
        if isinstance(call, EmbeddingCall):
            try:
                return Reply(embedded(call, self._vector_of))
            except ValueError as error:
                return Reply(failed(call, ErrorKind.BAD_REQUEST, str(error)))
        if self._script:
            return self._script.popleft()(call)
        if self._otherwise is not None:
            return Reply.of(answered(call, self._otherwise))
        return Reply(failed(call, ErrorKind.INTERNAL_SERVER, _NO_ANSWER))
