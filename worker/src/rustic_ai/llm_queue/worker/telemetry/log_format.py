from __future__ import annotations

import logging
import os
from datetime import UTC, datetime
from typing import Any

from rustic_ai.llm_queue.tasks.privacy.printable import printable_json
from rustic_ai.llm_queue.tasks.privacy.redaction import redact
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber

from ..settings import WorkerSettings
from .job_log import FACTS

#: They write lines of their own about every job, which has its one line already.
_PER_JOB_LOGGERS = ("celery.worker.strategy", "celery.app.trace")


class JsonFormatter(logging.Formatter):
    """One JSON object a line, with the time in UTC."""

    def __init__(self, scrubber: Scrubber) -> None:
        super().__init__()
        self._scrubber = scrubber

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if (facts := getattr(record, FACTS, None)) is not None:
            # The one thing that a redacted record still has as it was.
            entry[FACTS] = {name: self._clean(value) for name, value in facts.items()}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        if record.stack_info:
            entry["stack"] = self.formatStack(record.stack_info)
        return printable_json(entry, indent=None)

    def _clean(self, value: Any) -> Any:
        return self._scrubber.scrub(value) if isinstance(value, str) else value


class LogFormat:
    """Gives a logger's handlers the format and the level of the settings, and no secret."""

    def __init__(self, settings: WorkerSettings) -> None:
        self._settings = settings
        self._scrubber = Scrubber.of_environment(os.environ)

    def set_up(self, logger: logging.Logger, **_: Any) -> None:
        """Format a logger that has its handlers: a receiver of Celery's signals."""
        if "log_level" in self._settings.model_fields_set:
            # Celery's own argument is there too; a setting that somebody made shall not be in vain.
            logger.setLevel(min(logger.level, logging.getLevelNamesMapping()[self._settings.log_level]))
        if not logger.isEnabledFor(logging.DEBUG):
            for name in _PER_JOB_LOGGERS:
                logging.getLogger(name).setLevel(logging.WARNING)
        for handler in logger.handlers:
            redact(handler, self._scrubber)
            if self._settings.log_format == "json":
                handler.setFormatter(JsonFormatter(self._scrubber))
