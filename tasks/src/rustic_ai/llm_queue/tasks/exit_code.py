from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How an `llm-queue` command ends."""

    DONE = 0
    #: Not done, or something was found that is wrong: the message says what.
    FAILED = 1
    #: The command line is wrong.
    USAGE = 2
    #: A setting is wrong.
    SETTINGS = 3
    #: Redis cannot be reached, or refuses.
    REDIS = 4
    #: Ended by Ctrl-C.
    INTERRUPTED = 130
