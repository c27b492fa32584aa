from __future__ import annotations

from rustic_ai.llm_queue.tasks.call import CallKind

from .execution import Execution


class Intake:
    """The jobs that this worker is taking up, from their wake-up until their first call may be made.

    While one of them may want embeddings, another's call, which it could share, is worth a short wait.
    """

    def __init__(self) -> None:
        self._jobs: set[Execution] = set()

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Execution) -> None:
        """A wake-up has come in."""
        self._jobs.add(job)

    def claimed(self, job: Execution) -> None:
        """What it wants is known now: a completion shares its call with nobody."""
        if job.record is not None and job.record.job.kind is not CallKind.EMBEDDING:
            self._jobs.discard(job)

    def discard(self, job: Execution) -> None:
        """Its call may be made now, or it has ended before. Doing it twice is safe."""
        self._jobs.discard(job)
