"""A worker's start: what it refuses, and that it can be stopped at any moment of it."""

from __future__ import annotations

import asyncio
import logging
import sys
from typing import Any, NoReturn

from celery import Celery, signals
from redis.exceptions import NoPermissionError, RedisError

from rustic_ai.llm_queue.tasks.connection.cluster_mode import refuse_cluster_mode
from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.connection.redis_errors import LOGIN_ERRORS
from rustic_ai.llm_queue.tasks.connection.redis_url import masked_url
from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.job import NORMAL
from rustic_ai.llm_queue.tasks.ledger.keys import message_list
from rustic_ai.llm_queue.tasks.privacy.printable import printable
from rustic_ai.llm_queue.tasks.settings import SettingsError

from ..pool.pool import AsyncPool
from ..pool.sigterm import end_now
from ..provider.targets.deployment_limits import joined
from ..provider.targets.litellm_config import read_litellm_config
from ..settings import MOST_CONCURRENT, WorkerSettings

logger = logging.getLogger(__name__)

#: For a look at Redis; a worker starts whether or not it answers.
_LOOK_S = 1.0


class EarlyEnd:
    """Ends a worker at once when it receives SIGTERM before it takes jobs.

    Celery by itself would first finish its start, importing LiteLLM and all. Once it takes jobs, it
    drains instead.
    """

    def __init__(self) -> None:
        self._takes_jobs = False

    def watch(self, app: Celery) -> None:
        """Heed Celery's signals from now on."""
        # Celery's signals hold their receivers weakly.
        app.llm_queue_early_end = self
        signals.worker_ready.connect(self.ready)
        signals.worker_shutting_down.connect(self.told_to_end)

    def ready(self, **_: Any) -> None:
        """Celery's signal: the worker takes jobs from now on."""
        self._takes_jobs = True

    def told_to_end(self, **_: Any) -> None:
        """Celery's signal, in its handler of SIGTERM, SIGINT or SIGQUIT."""
        if not self._takes_jobs:
            end_now(ExitCode.DONE)


def refuse(message: str, code: ExitCode) -> NoReturn:
    """End the start with one line. Raises `SystemExit`."""
    print(f"llm-queue: {printable(message)}", file=sys.stderr, flush=True)  # noqa: T201
    raise SystemExit(code)


def check_mode(url: str, key_tag: str, variable: str = "LLM_QUEUE_REDIS_URL") -> None:
    """Raises `SystemExit` for a Redis in cluster mode whose URL, of that variable, does not say so.

    One that is away is waited for as ever: then its answers say so.
    """

    async def look() -> None:
        timeouts: dict[str, Any] = {"socket_timeout": _LOOK_S, "socket_connect_timeout": _LOOK_S}
        async with connect(url, outage_s=0, key_tag=key_tag, **timeouts) as redis:
            await refuse_cluster_mode(redis, url, variable)

    try:
        asyncio.run(look())
    except SettingsError as error:
        refuse(str(error), ExitCode.SETTINGS)
    except (RedisError, OSError) as error:
        logger.debug("The mode of Redis is not known yet: %s", type(error).__name__)


def check_rights(settings: WorkerSettings) -> None:
    """Raises `SystemExit` where Redis refuses the login, or the user may not take from the queue.

    A worker would try again for ever, several times a second.
    """
    where = masked_url(settings.redis_url).partition("?")[0]

    async def look() -> None:
        timeouts: dict[str, Any] = {"socket_timeout": _LOOK_S, "socket_connect_timeout": _LOOK_S}
        async with connect(settings.redis_url, outage_s=0, key_tag=settings.key_tag, **timeouts) as redis:
            await redis.lrange(message_list(settings.queue, NORMAL), 0, 0)

    try:
        asyncio.run(look())
    except LOGIN_ERRORS:
        refuse(
            f"Redis at {where} refuses the login: check user and password in LLM_QUEUE_REDIS_URL",
            ExitCode.REDIS,
        )
    except NoPermissionError:
        refuse(
            f"Redis at {where} does not let this user take jobs from the queue {settings.queue!r}: give it "
            "the rights of a worker's in docker/redis/users.acl, whose key patterns name the queue; "
            "`llm-queue doctor` lists what is missing",
            ExitCode.REDIS,
        )
    except (RedisError, OSError) as error:
        logger.debug("The rights on Redis are not known yet: %s", type(error).__name__)


def check_start(worker: Any, settings: WorkerSettings) -> WorkerSettings:
    """The settings as Celery's own arguments have changed them.

    Raises `SystemExit` for what a worker cannot run with, before its pool starts.
    """
    if not issubclass(worker.pool_cls, AsyncPool):
        refuse("a worker's jobs run in its own pool: leave out -P and --pool", ExitCode.USAGE)
    if not 1 <= worker.concurrency <= MOST_CONCURRENT:
        refuse(f"-c {worker.concurrency}: give 1 to {MOST_CONCURRENT} calls in flight", ExitCode.USAGE)
    try:
        if settings.litellm_config is not None:
            joined(settings.limit_rules(), read_litellm_config(settings.litellm_config).limits)
    except SettingsError as error:
        refuse(str(error), ExitCode.SETTINGS)
    check_mode(settings.redis_url, settings.key_tag)
    if settings.cache_url is not None:
        check_mode(settings.cache_url, settings.key_tag, "LLM_QUEUE_CACHE_URL")
    check_rights(settings)
    return settings.model_copy(update={"concurrency": worker.concurrency})
