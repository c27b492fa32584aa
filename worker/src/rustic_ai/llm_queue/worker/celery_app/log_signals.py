from __future__ import annotations

from celery import Celery, signals

from ..telemetry.log_format import LogFormat


def watch_loggers(app: Celery, log_format: LogFormat) -> None:
    """Format the loggers whenever Celery has set them up."""
    # Celery's signals hold their receivers weakly.
    app.llm_queue_log_format = log_format
    signals.after_setup_logger.connect(log_format.set_up)
    signals.after_setup_task_logger.connect(log_format.set_up)
