from __future__ import annotations

import socket
from collections.abc import Awaitable, Callable
from typing import Any

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.connection import ConnectionPool
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff

from ..settings import require_server
from .checked_connection import checked
from .key_tag import tagged
from .redis_errors import LOGIN_ERRORS
from .redis_errors import OUTAGE_ERRORS as OUTAGE_ERRORS
from .redis_url import ClusterUrl, SentinelUrl, is_cluster_url
from .slot import Slot
from .slot_connection import SlotConnection, TlsSlotConnection

#: A `SIGSTOP`ped server or a half-open connection answers nothing: give up on the socket after
#: this, and let the retries decide about the rest.
SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
#: A command takes well under a millisecond, so few connections carry many jobs.
MAX_CONNECTIONS = 16
_SENTINEL_CONNECTIONS = 100_000
_RETRY_STEP_S = 0.05
_RETRY_CAP_S = 1.0


class LoginRetry(Retry):
    """Tries again whatever may pass, and gives up at once on a wrong user or password."""

    async def call_with_retry[T](
        self,
        do: Callable[[], Awaitable[T]],
        fail: Callable[..., Any],
        is_retryable: Callable[[Exception], bool] | None = None,
        with_failure_count: bool = False,
    ) -> T:
        def may_pass(error: Exception) -> bool:
            return not isinstance(error, LOGIN_ERRORS) and (is_retryable is None or is_retryable(error))

        return await super().call_with_retry(do, fail, may_pass, with_failure_count)


def connect(
    url: str, *, outage_s: float, key_tag: str = "", max_connections: int = MAX_CONNECTIONS, **options: Any
) -> Redis:
    """A lazy asyncio client for `url`; no connection is made yet.

    Args:
        outage_s: how long a command is tried again while Redis is away, restarts or fails over;
            0 tries once.
        key_tag: the hash tag before every key; a cluster's URL needs one.
        max_connections: bound of the pool; commands beyond it wait for their turn.

    Raises `SettingsError` for `memory://`, behind which there is no server.
    """
    require_server(url)
    # The steps double up to the cap, so about this many fill the outage.
    retries = int(outage_s / _RETRY_CAP_S) + 4 if outage_s else 0
    settings: dict[str, Any] = {
        "decode_responses": True,
        # A record that is not UTF-8 must reach our validation, not break the connection.
        "encoding_errors": "replace",
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
        "health_check_interval": 10,
        "retry": LoginRetry(ExponentialBackoff(cap=_RETRY_CAP_S, base=_RETRY_STEP_S), retries),
        "retry_on_error": list(OUTAGE_ERRORS),
        **options,
    }
    if url.startswith("sentinel://"):
        client = _sentinel_client(SentinelUrl.parse(url), settings)
    else:
        # Thousands of jobs share these few: redis-py's plain pool would refuse them instead.
        settings |= {"max_connections": max_connections, "timeout": None}
        client = Redis.from_pool(
            _cluster_pool(ClusterUrl.parse(url), key_tag, settings)
            if is_cluster_url(url)
            else BlockingConnectionPool.from_url(url, **settings)
        )
    pool = client.connection_pool
    pool.connection_class = tagged(checked(pool.connection_class), key_tag)
    return client


def _cluster_pool(target: ClusterUrl, key_tag: str, settings: dict[str, Any]) -> ConnectionPool:
    settings |= {"username": target.username, "password": target.password, **(target.tls or {})}
    return BlockingConnectionPool(
        connection_class=TlsSlotConnection if target.tls else SlotConnection,
        slot=Slot(key_tag, target.hosts),
        **settings,
    )


def _sentinel_client(target: SentinelUrl, settings: dict[str, Any]) -> Redis:
    # The pool that follows a master does not wait for a free connection, so it must not run out.
    settings["max_connections"] = _SENTINEL_CONNECTIONS
    timeouts = {"socket_timeout": CONNECT_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    sentinels = Sentinel(list(target.hosts), sentinel_kwargs=timeouts | target.to_sentinels)
    if target.tls:
        settings |= {"ssl": True, **target.tls}
    master: Redis = sentinels.master_for(
        target.master, db=target.db, username=target.username, password=target.password, **settings
    )
    return master


def _keepalive() -> dict[int, int]:
    # A peer that vanished is noticed after 10 + 3 x 5 s instead of two hours.
    return {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
