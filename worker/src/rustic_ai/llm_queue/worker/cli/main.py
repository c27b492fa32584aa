from __future__ import annotations

import sys

import click
from redis.exceptions import RedisError

from ...tasks.settings import QueueSettings, SettingsError
from .cancel import cancel
from .command_group import CommandGroup
from .costs import costs
from .dead import dead
from .doctor import doctor
from .exit_code import ExitCode
from .flower import flower
from .functions import load_functions
from .jobs import jobs
from .key import make_key
from .quarantine import quarantine
from .redis_trouble import redis_trouble
from .top import top
from .worker import worker


@click.group(cls=CommandGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="rusticai-llm-queue")
def commands() -> None:
    """Run and steer the workers of a queue-backed LLM. Settings come from LLM_QUEUE_… variables.

    Exit codes: 0 done; 1 not done, or something wrong was found; 2 the command line is wrong; 3 a
    setting is wrong; 4 Redis cannot be reached, or refuses; 130 ended by Ctrl-C.
    """


commands.add_command(worker)
commands.add_command(flower)
commands.add_command(make_key)
commands.add_command(load_functions)
commands.add_command(costs)
commands.add_command(jobs)
commands.add_command(cancel)
commands.add_command(dead)
commands.add_command(quarantine)
commands.add_command(doctor)
commands.add_command(top)


def main() -> None:
    """The `llm-queue` command."""
    try:
        commands(prog_name="llm-queue")
    except SettingsError as error:
        click.echo(f"llm-queue: {error}", err=True)
        sys.exit(ExitCode.SETTINGS)
    except RedisError as error:
        click.echo(f"llm-queue: {redis_trouble(error, QueueSettings().redis_url)}", err=True)
        sys.exit(ExitCode.REDIS)
