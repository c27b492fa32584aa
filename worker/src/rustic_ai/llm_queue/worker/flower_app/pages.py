from __future__ import annotations

from pathlib import Path
from typing import Any

import tornado.web
from flower.api.tasks import GetQueueLengths
from flower.views import BaseHandler
from flower.views.broker import BrokerView
from flower.views.monitor import Metrics
from flower.views.tasks import TasksView, TaskView
from flower.views.workers import WorkerView
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.ledger.views.depths import QueueDepth

from .pool_figures import pool_figures

#: Tornado takes an absolute path as it is, and finds the page that it extends among Flower's.
_OURS = Path(__file__).with_name("templates")


class QueuesPage(BrokerView):  # type: ignore[misc]  # Flower is untyped
    """Flower's page of the broker, with the ledger's own numbers."""

    @tornado.web.authenticated
    async def get(self) -> None:
        depths: list[QueueDepth] = []
        trouble = "No worker has named a queue yet."
        try:
            depths = await self.application.depths.of(self.get_active_queue_names())
        except (RedisError, OSError) as error:
            trouble = f"Redis does not answer ({type(error).__name__})."
        self.render(
            str(_OURS / "queues.html"), depths=depths, trouble=trouble, broker_url=self.application.broker_uri
        )


class JobsPage(TasksView):  # type: ignore[misc]  # Flower is untyped
    """Flower's list of tasks, laid out for our columns."""

    def render(self, template: str, **values: Any) -> None:
        super().render(str(_OURS / "jobs.html") if template == "tasks.html" else template, **values)


class JobPage(TaskView):  # type: ignore[misc]  # Flower is untyped
    """Flower's page of a task, with a job's own rows."""

    def render(self, template: str, **values: Any) -> None:
        super().render(str(_OURS / "job.html") if template == "task.html" else template, **values)


class QueueLengths(GetQueueLengths):  # type: ignore[misc]  # Flower is untyped
    """Flower's API of queue lengths, from the ledger."""

    def get_broker(self) -> Any:
        return self.application.depths


class WorkerPage(WorkerView):  # type: ignore[misc]  # Flower is untyped
    """Flower's page of a worker, whose pool's figures read as people read them."""

    def render(self, template: str, **values: Any) -> None:
        worker = values.get("worker")
        if template == "worker.html" and worker is not None:
            stats = {**worker["stats"], "pool": pool_figures(worker["stats"].get("pool", {}))}
            values["worker"] = {**worker, "stats": stats}
        super().render(template, **values)


class AuthenticatedMetrics(Metrics):  # type: ignore[misc]  # Flower is untyped
    """Flower's own metrics, which it would show to anyone."""

    @tornado.web.authenticated
    async def get(self) -> None:
        await super().get()


class Refused(BaseHandler):  # type: ignore[misc]  # Flower is untyped
    """What has no use here: tasks are jobs of the ledger, and answers are their callers' alone."""

    @tornado.web.authenticated
    def get(self, *_: str) -> None:
        raise tornado.web.HTTPError(403, "Answers are for their callers alone")

    @tornado.web.authenticated
    def post(self, *_: str) -> None:
        raise tornado.web.HTTPError(403, "Jobs are submitted by agents, through a QueueLLM")
