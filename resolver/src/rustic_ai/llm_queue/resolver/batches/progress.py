from __future__ import annotations

from types import TracebackType
from typing import Self

from rustic_ai.llm_queue.tasks.privacy.printable import printable

from .item import BatchProgress


class ProgressBar:
    """A batch's progress on standard error: a context manager, and an `on_progress`."""

    def __init__(self, title: str = "batch", *, total: int | None = None, done: int = 0) -> None:
        """`done` are items that an earlier run has brought to their end."""
        from rich.console import Console
        from rich.markup import escape
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        columns = (
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[failed]} failed, {task.fields[in_flight]} in flight"),
            TimeRemainingColumn(),
        )
        self._before = done
        self._progress = Progress(*columns, console=Console(stderr=True))
        self._task = self._progress.add_task(
            escape(printable(title)), total=total, completed=done, failed=0, in_flight=0
        )

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._progress.stop()

    def __call__(self, progress: BatchProgress) -> None:
        total = None if progress.total is None else self._before + progress.total
        self._progress.update(
            self._task,
            completed=self._before + progress.done,
            total=total,
            failed=progress.failed,
            in_flight=progress.in_flight,
        )
