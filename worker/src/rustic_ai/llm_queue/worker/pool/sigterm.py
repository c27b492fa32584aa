from __future__ import annotations

import logging
import os
import signal
import sys
from contextlib import suppress

from rustic_ai.llm_queue.tasks.exit_code import ExitCode


def end_on_sigterm() -> None:
    """Let SIGTERM end this process at once, until something else takes care of it.

    A container's first process has the id 1, for which the kernel drops a signal without a handler:
    a SIGTERM during the seconds of the imports would be lost, and the container killed much later.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, lambda *_: end_now(ExitCode.DONE))


def end_now(code: int) -> None:
    """End this process without the interpreter's cleaning up; its logs are written."""
    # In a signal's handler the main thread may be in the middle of writing one of them.
    with suppress(Exception):
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)
