from __future__ import annotations

import sys

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.ledger.ledger import FunctionsMissing, Ledger
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..output import echo, json_option, print_json
from ..redis_session import on_redis


@click.command("load-functions")
@json_option
def load_functions(as_json: bool) -> None:
    """Load the queue's functions into Redis, as every worker does when it starts.

    Needed once before the first submit where no worker runs yet and agents may not load them: after
    Redis lost its data, or when workers are scaled down to none.
    """
    try:
        on_redis(_load, QueueSettings())
    except FunctionsMissing:
        echo("llm-queue: this user may not load functions; use the worker's", err=True)
        sys.exit(ExitCode.FAILED)
    if as_json:
        print_json({"loaded": True})
    else:
        echo("the queue's functions are loaded")


async def _load(redis: Redis, settings: QueueSettings) -> None:
    await Ledger(redis, result_ttl=settings.result_ttl).load()
