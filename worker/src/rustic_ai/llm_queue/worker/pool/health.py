from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from celery import signals

from .loop import Service

#: A health check may call a worker stuck when the file is older than three of these, in seconds.
TOUCH_EVERY_S = 5.0


class HealthFile:
    """A file that is touched while the worker lives, for a container's health check: a `Service`.

    It appears when the worker first takes jobs, and goes with the event loop. Redis' absence does
    not change it: a restart would not bring Redis back, and would cut the calls that run.
    """

    def __init__(self, path: Path, *, every_s: float = TOUCH_EVERY_S) -> None:
        self._path, self._every_s = path, every_s

    def watch(self, pool: Any) -> None:
        """Begin when the worker takes jobs. Keep this object: Celery holds its receivers weakly."""
        self._pool = pool
        signals.worker_ready.connect(self._ready)

    def _ready(self, **_: Any) -> None:
        service: Service = self
        self._pool.add_service(service)

    async def run(self) -> None:
        """Touch it until cancelled."""
        try:
            while True:
                self._path.touch()
                await asyncio.sleep(self._every_s)
        finally:
            self._path.unlink(missing_ok=True)
