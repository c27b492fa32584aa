"""The Celery app an operator names: `celery -A rustic_ai.llm_queue.worker.app worker`."""

from __future__ import annotations

from .celery_app.factory import make_worker_app
from .settings import WorkerSettings

app = make_worker_app(WorkerSettings())
