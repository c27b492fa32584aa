from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import click

from ..configuration_error import ConfigurationError, WrongSetting
from ..exceptions import QueueError, QueueUnavailable
from .command_failed import BadSetting, CommandFailed, Unreachable


@contextmanager
def failures() -> Iterator[None]:
    """Turns what the queue raises into one line and an exit code."""
    # A command's output is its own: a library's warnings while it tries again are not.
    logger = logging.getLogger("rustic_ai")
    before = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    except WrongSetting as error:
        raise BadSetting(str(error)) from None
    except ConfigurationError as error:
        raise click.UsageError(str(error)) from None
    except QueueUnavailable as error:
        raise Unreachable(str(error)) from None
    except QueueError as error:
        raise CommandFailed(str(error)) from None
    finally:
        logger.setLevel(before)
