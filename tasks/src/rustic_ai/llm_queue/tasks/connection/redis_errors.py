"""What Redis answers when it cannot serve just now, and when it never will: one list for both sides."""

from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    ClusterDownError,
    ReadOnlyError,
    ResponseError,
    TryAgainError,
)
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

#: Codes for which redis-py has no class of its own: a script runs too long, the disk is full or a snapshot
#: failed, too few replicas are there.
_NOT_READY = frozenset({"BUSY", "MISCONF", "NOREPLICAS"})


class RedisNotReady(ResponseError):
    """Redis refuses commands for now, and says so: nothing was done, the same command may work later."""


#: What a Redis that is away, restarting, failing over or not ready looks like: the command is tried again.
OUTAGE_ERRORS: tuple[type[Exception], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    RedisNotReady,
    TryAgainError,
    ClusterDownError,
    OSError,
)

#: The user or the password is wrong, which no second try mends. redis-py counts the first among the
#: connection's errors, so look for these before `OUTAGE_ERRORS`.
LOGIN_ERRORS: tuple[type[Exception], ...] = (AuthenticationError, AuthenticationWrongNumberOfArgsError)


def not_ready(error: ResponseError) -> RedisNotReady | None:
    """The error as a `RedisNotReady`, where Redis' code says so."""
    message = str(error)
    return RedisNotReady(message) if message.partition(" ")[0] in _NOT_READY else None
