"""What Redis answers when it cannot serve just now, and when it never will: one list for both sides."""

from __future__ import annotations

from redis.exceptions import (
    AskError,
    AuthenticationError,
    AuthenticationWrongNumberOfArgsError,
    ClusterCrossSlotError,
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


def set_up_as_cluster(variable: str = "LLM_QUEUE_REDIS_URL") -> str:
    """What to do about a Redis in cluster mode that is not set up as one, where `variable` has its URL."""
    return (
        "Redis answers in cluster mode; set LLM_QUEUE_KEY_TAG=llmq for agents and workers, and begin "
        f"{variable} with redis+cluster:// (rediss+cluster:// for TLS)"
    )


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


class ClusterMet(ResponseError):
    """Redis is in cluster mode, and this client does not know."""

    def __init__(self) -> None:
        super().__init__(set_up_as_cluster())


def cluster_met(error: ResponseError) -> ClusterMet | None:
    """The error as a `ClusterMet`, where only a Redis in cluster mode has it."""
    elsewhere = isinstance(error, AskError | ClusterCrossSlotError) or "Script attempted to access" in str(
        error
    )
    return ClusterMet() if elsewhere else None


def not_ready(error: ResponseError) -> RedisNotReady | None:
    """The error as a `RedisNotReady`, where Redis' code says so."""
    message = str(error)
    return RedisNotReady(message) if message.partition(" ")[0] in _NOT_READY else None
