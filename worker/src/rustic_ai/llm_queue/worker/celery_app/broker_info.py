from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from celery import Celery, bootsteps

from rustic_ai.llm_queue.tasks.connection.redis_url import masked_url

_SECRET = re.compile(r"passw|secret|token|credential", re.IGNORECASE)


class _BrokerInfo(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """What `inspect stats`, and so Flower, shows of the broker: Celery's own takes one password out of it,
    and leaves the Sentinels'."""

    requires = ("celery.worker.consumer.connection:Connection",)

    def info(self, consumer: Any) -> dict[str, Any]:
        # In place of the entry of the same name, which an earlier step has made.
        known = consumer.connection.info() if consumer.connection else {}
        return {"broker": without_secrets(known)}


def hide_broker_secrets(app: Celery) -> None:
    """Keep passwords out of what workers of `app` report about their broker."""
    app.steps["consumer"].add(_BrokerInfo)


def without_secrets(value: Any) -> Any:
    """`value` without what is named like a secret, its URLs masked."""
    if isinstance(value, Mapping):
        kept = {name: item for name, item in value.items() if not _SECRET.search(str(name))}
        return {name: without_secrets(item) for name, item in kept.items()}
    if isinstance(value, list | tuple):
        return [without_secrets(item) for item in value]
    return masked_url(value) if isinstance(value, str) and "://" in value else value
