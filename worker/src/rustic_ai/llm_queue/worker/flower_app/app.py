from __future__ import annotations

from functools import cached_property
from typing import Any

from celery import Celery
from flower.app import Flower, rewrite_handler
from tornado.ioloop import IOLoop
from tornado.web import url

from rustic_ai.llm_queue.tasks.connection.redis_url import masked_url

from .columns import COLUMNS, add_columns, show_job
from .events import JobEvents
from .pages import AuthenticatedMetrics, JobPage, JobsPage, QueueLengths, QueuesPage, Refused, WorkerPage
from .queue_depths import QueueDepths

#: In place of Flower's own, under the same addresses.
_HANDLERS = (
    url(r"/broker", QueuesPage),
    url(r"/task/(.+)", JobPage),
    url(r"/tasks", JobsPage),
    url(r"/worker/(.+)", WorkerPage),
    url(r"/metrics", AuthenticatedMetrics),
    url(r"/api/queues/length", QueueLengths),
    url(r"/api/task/(?:apply|async-apply|send-task|result|abort)/(.+)", Refused),
)
_INSPECT_TIMEOUT_MS = 2_000.0


class JobFlower(Flower):  # type: ignore[misc]  # Flower is untyped
    """Flower over our jobs: their owners, costs and attempts, and no way to an answer."""

    def __init__(
        self, celery_app: Celery, redis_url: str, key_tag: str, options: Any, **settings: Any
    ) -> None:
        add_columns()
        options.tasks_columns = ",".join(COLUMNS)
        options.format_task = show_job
        options.inspect_timeout = _INSPECT_TIMEOUT_MS
        io_loop = IOLoop.current()
        events = JobEvents(
            celery_app,
            io_loop,
            max_tasks_in_memory=options.max_tasks,
            max_workers_in_memory=options.max_workers,
        )
        super().__init__(options=options, capp=celery_app, events=events, io_loop=io_loop, **settings)
        self.depths = QueueDepths(redis_url, key_tag)
        prefix = options.url_prefix
        # Handlers that are added later are asked first.
        self.add_handlers(".*", [rewrite_handler(one, prefix) if prefix else one for one in _HANDLERS])

        self._redis_url = redis_url

    @cached_property
    def broker_uri(self) -> str:
        """Where Redis is, without the password."""
        return masked_url(self._redis_url)
