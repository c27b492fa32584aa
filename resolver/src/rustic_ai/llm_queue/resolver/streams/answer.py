from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rustic_ai.llm_queue.tasks.answer_assembly import AnswerAssembler
from rustic_ai.llm_queue.tasks.outcome import Answered, Outcome

from ..chunk import ChatCompletionChunk
from ..exceptions import StreamExpired, StreamRestarted
from ..response import QueueChatCompletionResponse
from .order import Chunks, Restarted
from .source import CaughtUp, Ended, Gone, StreamEvent
from .tail import missing_chunk

OnRestart = Callable[[Restarted], None]
#: Makes a response of an outcome, a job's id and the model that was asked for; raises how else it ended.
ReadAnswer = Callable[[Outcome, str, str], QueueChatCompletionResponse]


class StreamedAnswer:
    """The answer that a stream builds up. Chunks that were lost on the way are added when it ends.

    No I/O: it is fed a source's events.
    """

    def __init__(
        self,
        job_id: str,
        model: str,
        read: ReadAnswer,
        *,
        on_restart: OnRestart | None = None,
        refuse_restarts: bool = False,
        skip_past: bool = False,
    ) -> None:
        """
        Args:
            skip_past: earlier chunks count for `text`, and are not yielded.
        """
        self._job_id, self._model, self._read = job_id, model, read
        self._on_restart = on_restart
        self._refuse_restarts = refuse_restarts
        self._silent = skip_past
        self._assembler = AnswerAssembler()
        self._anew = False
        self.restarts = 0
        self.ended = False
        self.response: QueueChatCompletionResponse | None = None

    def text(self, choice: int) -> str:
        """The content of a choice so far."""
        return self._assembler.text(choice)

    def take(self, event: StreamEvent) -> list[ChatCompletionChunk]:
        """The chunks an event brings.

        Raises what the job failed with, `StreamRestarted`, `StreamExpired`.
        """
        match event:
            case Chunks(chunks=chunks):
                return self._add(chunks)
            case Restarted():
                self._restart(event)
            case CaughtUp():
                self._silent = False
            case Ended(outcome=outcome):
                return self._end(outcome)
            case Gone(outcome=outcome):
                self._expire(outcome)
        return []

    def _add(self, raw_chunks: list[dict[str, Any]]) -> list[ChatCompletionChunk]:
        chunks = []
        for raw in raw_chunks:
            self._assembler.add(raw)
            if not self._silent:
                chunks.append(ChatCompletionChunk.model_validate({**raw, "restarted": self._anew}))
                self._anew = False
        return chunks

    def _restart(self, restarted: Restarted) -> None:
        self._assembler = AnswerAssembler()
        if self._silent:
            return
        self.restarts += 1
        self._anew = True
        if self._on_restart is not None:
            self._on_restart(restarted)
        if self._refuse_restarts:
            raise StreamRestarted(kind=restarted.reason, job_id=self._job_id, model=restarted.model)

    def _end(self, outcome: Outcome) -> list[ChatCompletionChunk]:
        self.ended, self._silent = True, False
        response = self._read(outcome, self._job_id, self._model)
        assert isinstance(outcome, Answered)
        chunk = missing_chunk(self._assembler, outcome.response)
        if chunk is None:
            self._restart(Restarted(None, outcome.model))
            chunk = missing_chunk(self._assembler, outcome.response)
            assert chunk is not None
        self.response = response
        return self._add([chunk]) if chunk["choices"] or "usage" in chunk else []

    def _expire(self, outcome: Outcome | None) -> None:
        self.ended = True
        response = None if outcome is None else self._read(outcome, self._job_id, self._model)
        raise StreamExpired(job_id=self._job_id, model=self._model, result=response)
