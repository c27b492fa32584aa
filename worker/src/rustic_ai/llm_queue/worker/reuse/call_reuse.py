from __future__ import annotations

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.outcome import Outcome

from ..jobs.execution import Execution
from ..jobs.reuse_port import VectorTicket
from .answer_reuse import AnswerReuse
from .vector_reuse import VectorReuse


class CallReuse:
    """Finds what equal calls have brought: of a completion its answer, of embeddings each text's vector."""

    def __init__(self, answers: AnswerReuse, vectors: VectorReuse) -> None:
        self._answers, self._vectors = answers, vectors

    async def find(self, execution: Execution) -> Outcome | None:
        """See `Reuse`."""
        if isinstance(execution.call, EmbeddingCall):
            return await self._vectors.find(execution, execution.call)
        return await self._answers.find(execution)

    async def keep(self, execution: Execution, outcome: Outcome) -> Outcome:
        """See `Reuse`."""
        if isinstance(execution.reused, VectorTicket):
            return await self._vectors.keep(execution, execution.reused, outcome)
        await self._answers.keep(execution, outcome)
        return outcome

    async def share(self, execution: Execution, outcome: Outcome) -> None:
        """See `Reuse`."""
        if not isinstance(execution.reused, VectorTicket):
            await self._answers.share(execution, outcome)
