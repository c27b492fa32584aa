from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from rustic_ai.llm_queue.tasks.exit_code import ExitCode


class CommandFailed(click.ClickException):
    """The command could not do what it was asked to; the exit codes are those `llm-queue --help` lists."""

    exit_code = ExitCode.FAILED


class Unreachable(CommandFailed):
    """Redis cannot be reached, or refuses."""

    exit_code = ExitCode.REDIS


class Interrupted(CommandFailed):
    """Ended by Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED


@contextmanager
def failures() -> Iterator[None]:
    """Makes of what the queue raises one line and an exit code."""
    # What a library says while it tries again is no output of a command's.
    logging.getLogger("rustic_ai").setLevel(logging.ERROR)
    from ..configuration_error import ConfigurationError
    from ..exceptions import QueueError, QueueUnavailable

    try:
        yield
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except QueueUnavailable as error:
        raise Unreachable(str(error)) from None
    except QueueError as error:
        raise CommandFailed(str(error)) from None
