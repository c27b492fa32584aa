from __future__ import annotations

import asyncio
import sys

import click
from redis.exceptions import RedisError

from ...tasks.ledger import FunctionsMissing, Ledger
from ...tasks.redis_client import connect
from ...tasks.settings import QueueSettings


@click.command("load-functions")
def load_functions() -> None:
    """Load the queue's functions into Redis, as every worker does when it starts.

    Needed once before the first submit where no worker runs yet and agents may not load them: after
    Redis lost its data, or when workers are scaled down to none.
    """
    settings = QueueSettings()
    try:
        asyncio.run(_load(settings))
    except FunctionsMissing:
        _fail("this user may not load functions; use the worker's")
    except (RedisError, OSError) as error:
        _fail(f"Redis: {type(error).__name__}: {error}")
    click.echo("the queue's functions are loaded")


async def _load(settings: QueueSettings) -> None:
    async with connect(settings.redis_url, outage_s=settings.redis_timeout.total_seconds()) as redis:
        await Ledger(redis, result_ttl=settings.result_ttl).load()


def _fail(message: str) -> None:
    click.echo(f"llm-queue: {message}", err=True)
    sys.exit(1)
