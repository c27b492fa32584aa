from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

from ..broker.channel import WakeupQoS

#: Of a worker: its `ReservedPlaces`, where it has any.
RESERVED_PLACES = "llm_queue_reserved_places"


class _TakeMany(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """Lets the consumer take as many wake-ups in one round trip as its pool has room for."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def start(self, consumer: Any) -> None:
        # Anew after each reconnect, which makes a new channel.
        channel = consumer.task_consumer.channel
        qos = channel.qos
        if not isinstance(qos, WakeupQoS):
            return

        def places() -> int:
            return int(consumer.pool.num_processes)

        def free() -> int:
            return places() - len(state.reserved_requests)

        reserved = getattr(consumer.controller, RESERVED_PLACES, None)
        if reserved is None:
            qos.room = free
            return

        def deliver(wakeups: Sequence[str]) -> None:
            # On Celery's own thread, as what is popped.
            consumer.hub.call_soon(channel.deliver, wakeups)

        reserved.serve(free, places, deliver)
        qos.room = reserved.room


def take_in_batches(app: Celery) -> None:
    """Make workers of `app` take waiting wake-ups several at a time; needs Redis 7.0."""
    app.steps["consumer"].add(_TakeMany)
