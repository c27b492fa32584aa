from __future__ import annotations

from typing import Any

from flower.utils.template import format_duration
from flower.views.tasks import TASK_COLUMNS

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
}
#: Celery's own, which say nothing of a job.
_LEFT_OUT = frozenset({"root", "root_id", "parent", "parent_id", "children", "retries", "clock"})
_SHOWN_ANEW = {"queue_wait_s": "queue_wait", "run_time_s": "run_time", "cost_usd": "cost"}


def add_columns() -> None:
    """Make Flower know our columns. Calling it twice is safe."""
    TASK_COLUMNS.update(_LABELS)


def show_job(task: Any) -> Any:
    """Flower's `format_task`: a copy of the task, with figures as people read them."""
    task.queue_wait = _duration(task.queue_wait_s)
    task.run_time = _duration(task.run_time_s)
    task.cost = cost(task.cost_usd)
    task._fields = tuple(_SHOWN_ANEW.get(name, name) for name in task._fields if name not in _LEFT_OUT)
    return task


def cost(usd: float | None) -> str | None:
    """USD with the digits that a single call's cost needs."""
    if usd is None:
        return None
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.6f}"


def _duration(seconds: float | None) -> str | None:
    return None if seconds is None else str(format_duration(seconds))
