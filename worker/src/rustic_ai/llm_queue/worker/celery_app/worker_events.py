from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from celery import Celery

logger = logging.getLogger(__name__)


class WorkerEvents:
    """Sends events of this worker's own to Celery's monitors, as Flower and `celery events` are.

    They belong to the group `worker`, beside `worker-heartbeat`: one of the group `task` would change the
    state in which Flower shows that task.
    """

    def __init__(self, app: Celery, worker: str) -> None:
        self._app, self._worker = app, worker

    def send(self, kind: str, fields: Mapping[str, Any]) -> None:
        """Send `worker-<kind>`, on a connection of its own; blocks. What fails is logged."""
        try:
            with self._app.events.default_dispatcher(hostname=self._worker) as dispatcher:
                dispatcher.send(f"worker-{kind}", **fields)
        except Exception:
            logger.exception("The event worker-%s did not reach Celery's monitors", kind)
