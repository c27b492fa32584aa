from __future__ import annotations

import sys

import click
from redis.exceptions import RedisError

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError

from .command_group import CommandGroup
from .commands.cancel import cancel
from .commands.costs import costs
from .commands.dead import dead
from .commands.doctor import doctor
from .commands.flower import flower
from .commands.functions import load_functions
from .commands.jobs import jobs
from .commands.key import make_key
from .commands.quarantine import quarantine
from .commands.top import top
from .commands.worker import worker
from .redis_trouble import redis_trouble


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
