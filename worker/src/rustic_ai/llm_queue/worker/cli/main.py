from __future__ import annotations

import sys
from io import StringIO

import click
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError

from .command_group import CommandGroup
from .output import echo
from .redis_trouble import redis_trouble

#: Imported when they are asked for: some need Celery, which an agent's environment does not have.
_COMMANDS = {
    "budgets": "budgets:budgets",
    "cache": "cache:cache",
    "cancel": "cancel:cancel",
    "costs": "costs:costs",
    "dead": "dead:dead",
    "doctor": "doctor:doctor",
    "flower": "flower:flower",
    "jobs": "jobs:jobs",
    "limits": "limits:limits",
    "load-functions": "functions:load_functions",
    "make-key": "key:make_key",
    "pause": "limits:pause",
    "quarantine": "quarantine:quarantine",
    "resume": "limits:resume",
    "top": "top:top",
    "worker": "worker:worker",
}


@click.group(cls=CommandGroup, own=_COMMANDS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rusticai-llm-queue")
def commands() -> None:
    """Run and steer the workers of a queue-backed LLM. Settings come from LLM_QUEUE_… variables.

    Exit codes: 0 done; 1 not done, or something wrong was found; 2 the command line is wrong; 3 a
    setting is wrong; 4 Redis cannot be reached, or refuses; 130 ended by Ctrl-C.
    """


def main() -> None:
    """The `llm-queue` command."""
    try:
        sys.exit(commands.main(prog_name="llm-queue", standalone_mode=False))
    except click.ClickException as error:
        shown = StringIO()
        error.show(shown)
        echo(shown.getvalue().rstrip("\n"), err=True)
        sys.exit(error.exit_code)
    except click.Abort:
        sys.exit(ExitCode.INTERRUPTED)
    except SettingsError as error:
        echo(f"llm-queue: {error}", err=True)
        sys.exit(ExitCode.SETTINGS)
    except RedisError as error:
        echo(f"llm-queue: {redis_trouble(error, QueueSettings().redis_url)}", err=True)
        sys.exit(ExitCode.REDIS)
