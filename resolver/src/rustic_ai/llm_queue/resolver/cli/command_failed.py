from __future__ import annotations

import click

from rustic_ai.llm_queue.tasks.exit_code import ExitCode


class CommandFailed(click.ClickException):
    """The command could not do what it was asked to; the exit codes are those `llm-queue --help` lists."""

    exit_code = ExitCode.FAILED


class BadSetting(CommandFailed):
    """A setting is wrong."""

    exit_code = ExitCode.SETTINGS


class Unreachable(CommandFailed):
    """Redis cannot be reached, or refuses."""

    exit_code = ExitCode.REDIS


class Interrupted(CommandFailed):
    """Ended by Ctrl-C."""

    exit_code = ExitCode.INTERRUPTED
