from __future__ import annotations

from functools import partial
from typing import Any

from celery import Celery, bootsteps
from celery.worker import state

#: Celery's events reach Flower this much later at most, and a busy worker's go out many at a time: one
#: by one they took a tenth of its processor time.
_PACE_S = 0.1
_MOST = 500


class _EventPace(bootsteps.StartStopStep):  # type: ignore[misc]  # celery is untyped
    """Gathers the jobs' events, instead of sending them at each turn of Celery's loop."""

    requires = ("celery.worker.consumer.events:Events",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self._due = False

    def start(self, consumer: Any) -> None:
        # Anew after each reconnect, which makes a new dispatcher.
        if consumer.hub is not None:
            consumer.event_dispatcher.buffer_limit = _MOST
            consumer.event_dispatcher.on_send_buffered = partial(self._gathered, consumer)

    def stop(self, consumer: Any) -> None:
        # From here on nothing turns the loop's timers for long.
        self._send(consumer)

    def _gathered(self, consumer: Any) -> None:
        if state.should_stop is not None or state.should_terminate is not None:
            consumer.on_send_event_buffered()
        elif not self._due:
            self._due = True
            consumer.hub.call_later(_PACE_S, self._send, consumer)

    def _send(self, consumer: Any) -> None:
        self._due = False
        if consumer.event_dispatcher is not None:
            consumer.event_dispatcher.flush()


def gather_events(app: Celery) -> None:
    """Have workers of `app` send their events many at a time."""
    app.steps["consumer"].add(_EventPace)
