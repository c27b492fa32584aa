from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from celery.events import EventReceiver

from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.broker.app import make_celery_app


@contextmanager
def celery_events(redis_url: str) -> Iterator[list[dict[str, Any]]]:
    """Celery's events as any monitor receives and decodes them."""
    app = make_celery_app(QueueSettings(redis_url=redis_url))
    received: list[dict[str, Any]] = []
    with app.connection_for_read() as connection:
        receiver: Any = EventReceiver(connection, handlers={"*": received.append}, app=app)
        thread = threading.Thread(target=receiver.capture, kwargs={"limit": None, "wakeup": False})
        thread.start()
        try:
            yield received
        finally:
            receiver.should_stop = True
            thread.join()
    app.close()
