"""A worker's process that leaves a part of a call out, to see what it costs. Not fit for work.

python -m bench.contenders.worker_without PART worker --name NODE
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib import import_module
from typing import Any

PARTS = {
    "events": "Celery's events",
    "price": "the price",
    "log": "the log's line",
}
_WORKER = "rustic_ai.llm_queue.worker"


def _replace(module: str, name: str, make: Callable[[Any], Any]) -> None:
    owner: Any = import_module(f"{_WORKER}.{module}")
    *owners, last = name.split(".")
    for attribute in owners:
        owner = getattr(owner, attribute)
    setattr(owner, last, make(getattr(owner, last)))


def _without_events(make_app: Callable[..., Any]) -> Callable[..., Any]:
    return lambda *args, **named: make_app(*args, **named | {"worker_send_task_events": False})


def leave_out(part: str) -> None:
    """Have this process leave out one of `PARTS`."""
    match part:
        case "events":
            _replace("celery_app.factory", "make_celery_app", _without_events)
        case "price":
            _replace("provider.provider", "cost_usd", lambda _: lambda *_: None)
        case "log":
            _replace("telemetry.job_log", "logger.disabled", lambda _: True)
        case _:
            raise ValueError(part)


if __name__ == "__main__":
    # LiteLLM's environment has to stand before `provider` imports it.
    import_module(f"{_WORKER}.provider.litellm_api.environment").prepare_environment()
    leave_out(sys.argv.pop(1))
    import_module(f"{_WORKER}.cli.main").main()
