from __future__ import annotations

import logging
import warnings
from typing import Any

from celery import Celery, signals
from celery.apps import worker as celery_worker

from ..telemetry.log_format import LogFormat

logger = logging.getLogger(__name__)


def watch_loggers(app: Celery, log_format: LogFormat) -> None:
    """Format the loggers whenever Celery has set them up."""
    # Celery's signals hold their receivers weakly.
    app.llm_queue_log_format = log_format
    signals.after_setup_logger.connect(log_format.set_up)
    signals.after_setup_task_logger.connect(log_format.set_up)


class NoBanner:
    """Keeps out of a log that programs read what is printed for people: Celery's banner and farewells, and
    Python's warnings."""

    def __init__(self) -> None:
        self._warnings: list[str] = []

    def watch(self, app: Celery) -> None:
        """Act when a worker of `app` begins."""
        app.llm_queue_no_banner = self
        signals.celeryd_init.connect(self.begin)
        signals.after_setup_logger.connect(self.logs)

    def begin(self, instance: Any = None, **_: Any) -> None:
        """Celery's signal: a worker begins, and has printed nothing yet."""
        instance.quiet = True
        assert callable(celery_worker.safe_say)
        celery_worker.safe_say = _log
        # There is no handler yet that could log them.
        keep: Any = self._keep
        warnings.showwarning = keep

    def logs(self, **_: Any) -> None:
        """Celery's signal: its loggers have their handlers."""
        logging.captureWarnings(True)
        for warning in self._warnings:
            logger.warning("%s", warning)
        self._warnings.clear()

    def _keep(self, message: Warning | str, category: type[Warning], *_: Any) -> None:
        self._warnings.append(f"{category.__name__}: {message}")


def _log(message: str, *_: Any) -> None:
    logger.info("%s", message.strip())
