"""A worker's answer to an operator's question whether it could run jobs: never a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery.worker.control import inspect_command

from rustic_ai.llm_queue.tasks.names import TASK_NAME

#: The name of Celery's remote command.
WORKER_CHECK = "llm_queue_check"
_ANSWER_S = 5.0


@inspect_command(name=WORKER_CHECK, args=[("models", list)], signature="[model1 [model2 [... [modelN]]]]")
def answer_check(state: Any, models: Sequence[str] | None = None, **_: Any) -> dict[str, Any]:
    """Celery's remote command: the ids of the sealing keys, how far its clock is ahead of Redis', and what
    keeps each model from being called."""
    runtime = state.app.tasks[TASK_NAME].runtime
    report = runtime.check(list(models or ())[:100])
    return dict(state.consumer.pool.run(report).result(_ANSWER_S))
