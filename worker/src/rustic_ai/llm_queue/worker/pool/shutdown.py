from __future__ import annotations

import logging
import os
import threading
from datetime import timedelta
from typing import Any

from celery import signals

from .pool import AsyncPool

logger = logging.getLogger(__name__)

#: The exit code when the hard deadline had to end the process.
EXIT_HARD_STOP = 1


class Shutdown:
    """What a worker does about the signals that tell it to end.

    The first SIGTERM: it takes no more jobs and waits for those that run, until the drain's
    deadline; then it hands them back. A second one, like SIGQUIT: it hands them back at once. At
    the hard deadline, counted from the first signal, the process ends whatever holds it up; the
    leases of what it could not hand back run out, and another worker takes it over.
    """

    def __init__(self, pool: AsyncPool, *, hard_stop: timedelta) -> None:
        self._pool = pool
        self._hard_stop_s = hard_stop.total_seconds()
        self._begun = False

    def watch(self) -> None:
        """Heed the signals from now on."""
        signals.worker_shutting_down.connect(self.signalled)

    def signalled(self, **_: Any) -> None:
        """Celery was told to end: called in its signal handler, on the main thread."""
        if self._begun:
            self._pool.hurry()
            return
        self._begun = True
        deadline = threading.Timer(self._hard_stop_s, self._end)
        deadline.name, deadline.daemon = "llm-queue-hard-stop", True
        deadline.start()

    def _end(self) -> None:
        logger.error("The hard deadline of %g s is over: the worker ends now", self._hard_stop_s)
        logging.shutdown()
        os._exit(EXIT_HARD_STOP)
