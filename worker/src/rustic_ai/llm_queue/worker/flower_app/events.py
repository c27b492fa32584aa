from __future__ import annotations

from typing import Any

from flower.events import Events, EventsState

from .job_task import JobTask


class JobState(EventsState):  # type: ignore[misc]  # Flower is untyped
    """What Flower knows of jobs and workers, in memory."""

    Task = JobTask


class JobEvents(Events):  # type: ignore[misc]  # Flower is untyped
    """Flower's event receiver, whose tasks are jobs."""

    def __init__(self, *args: Any, max_tasks_in_memory: int, max_workers_in_memory: int) -> None:
        super().__init__(*args, max_tasks_in_memory=max_tasks_in_memory)
        self.state = JobState(
            max_tasks_in_memory=max_tasks_in_memory, max_workers_in_memory=max_workers_in_memory
        )
