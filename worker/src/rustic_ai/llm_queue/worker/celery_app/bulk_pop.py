from __future__ import annotations

from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from ..broker.channel import WakeupQoS


class _TakeMany(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """Lets the consumer take as many wake-ups in one round trip as its pool has room for."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        # Anew after each reconnect, which makes a new channel.
        qos = consumer.task_consumer.channel.qos
        if isinstance(qos, WakeupQoS):
            qos.room = lambda: int(consumer.pool.num_processes) - len(state.reserved_requests)


def take_in_batches(app: Celery) -> None:
    """Make workers of `app` take waiting wake-ups several at a time; needs Redis 7.0."""
    app.steps["consumer"].add(_TakeMany)
