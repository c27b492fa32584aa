from __future__ import annotations

from collections.abc import Callable
from typing import Any

from flower.views.tasks import TASK_COLUMNS

from .figures import cost, count, duration

#: The columns of Flower's list of tasks, ours among them.
COLUMNS = (
    "uuid",
    "state",
    "model",
    "guild",
    "agent",
    "estimated_tokens",
    "queue_wait",
    "run_time",
    "attempts",
    "cost",
    "limited",
    "budget",
    "received",
    "worker",
)
_LABELS = {
    "model": "Model",
    "guild": "Guild",
    "agent": "Agent",
    "estimated_tokens": "~Tokens",
    "queue_wait": "Queue wait",
    "run_time": "Run time",
    "attempts": "Attempts",
    "cost": "Cost",
    "limited": "Limited",
    "budget": "Budget",
}
#: What a job's own page shows below its name and state, in this order.
_ROWS = (
    "outcome",
    "exception",
    "kind",
    "texts",
    "model",
    "org",
    "guild",
    "agent",
    "estimated_tokens",
    "queue_wait",
    "run_time",
    "attempts",
    "models",
    "cost",
    "cached",
    "limited",
    "budget",
    "prompt_tokens",
    "completion_tokens",
    "received",
    "started",
    "succeeded",
    "failed",
    "revoked",
    "worker",
    "traceback",
)
#: What Flower's own template reads of a task, beside the rows.
_NEEDED = ("uuid", "name", "state", "args", "kwargs", "result")


def add_columns() -> None:
    """Make Flower know our columns. Calling it twice is safe."""
    TASK_COLUMNS.update(_LABELS)


def show_job(task: Any) -> Any:
    """Flower's `format_task`: a copy of the task, with figures as people read them."""
    task.estimated_tokens = _shown(count, task.estimated_tokens)
    task.queue_wait = _shown(duration, task.queue_wait_s)
    task.run_time = _shown(duration, task.run_time_s)
    task.cost = _shown(cost, task.cost_usd)
    if task.cost is None and task.outcome == "answered":
        task.cost = "no price"
    if task.outcome is not None:
        # The rows show the same, and more.
        task.result = task.outcome
    task._fields = (*_NEEDED, *_ROWS)
    return task


def _shown(show: Callable[[Any], str], value: object) -> str | None:
    # Any user that may publish events writes these values.
    return show(value) if isinstance(value, int | float) else None
