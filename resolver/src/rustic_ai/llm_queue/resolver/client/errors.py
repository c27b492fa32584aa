from __future__ import annotations

from typing import Self

from redis.exceptions import OutOfMemoryError, RedisError, ResponseError

from rustic_ai.llm_queue.tasks.connection.redis_errors import LOGIN_ERRORS, OUTAGE_ERRORS, ClusterMet
from rustic_ai.llm_queue.tasks.ledger.ledger import FunctionsMissing

#: Whatever a command may raise.
REDIS_FAILURES: tuple[type[Exception], ...] = (RedisError, *OUTAGE_ERRORS)


class ClientError(Exception):
    """What an engine raises. Callers get a `QueueError` instead: see `call.client_errors`."""


class QueueGone(ClientError):
    """Redis cannot be reached, or refuses: the message says which and what to do."""

    @classmethod
    def because(cls, error: Exception, *, within_s: float) -> Self:
        """The reason why a command failed.

        Args:
            error: one of `REDIS_FAILURES`.
            within_s: how long the command was tried.
        """
        match error:
            case _ if isinstance(error, LOGIN_ERRORS):
                return cls(f"Redis refuses the user or the password of LLM_QUEUE_REDIS_URL: {error}")
            case _ if isinstance(error, OUTAGE_ERRORS):
                return cls(
                    f"Redis did not answer within {within_s:g} s ({type(error).__name__}); "
                    "check LLM_QUEUE_REDIS_URL and that the server runs"
                )
            case OutOfMemoryError():
                return cls("Redis is out of memory and takes no more jobs; raise its maxmemory")
            case FunctionsMissing() | ClusterMet():
                return cls(str(error))
            case ResponseError():
                code = str(error).partition(" ")[0]
                return cls(f"Redis refused the command: {code}; run `llm-queue doctor`")
            case _:
                return cls(f"Redis cannot be understood ({type(error).__name__}); run `llm-queue doctor`")


class WaitTimeout(ClientError):
    """The deadline passed before the job ended."""


class SubmitConflict(ClientError):
    """The idempotency key stands for another request."""
