from __future__ import annotations

from redis.exceptions import (
    AuthenticationError,
    InvalidResponse,
    NoPermissionError,
    RedisError,
    ResponseError,
    TimeoutError,
)

from rustic_ai.llm_queue.tasks.connection.redis_url import masked_url
from rustic_ai.llm_queue.tasks.ledger.ledger import FunctionsMissing


def redis_trouble(error: RedisError, url: str) -> str:
    """One line on what is wrong with Redis and how to mend it, without the URL's password."""
    where = masked_url(url).partition("?")[0]
    match error:
        case FunctionsMissing():
            return f"{error}: run `llm-queue load-functions` as the worker's user"
        case AuthenticationError():
            return f"Redis at {where} refuses the login: check user and password in LLM_QUEUE_REDIS_URL"
        case NoPermissionError():
            return (
                f"Redis at {where} does not let this user do that ({error}): run it as the worker's user of "
                "docker/redis/users.acl, or give this one its rights"
            )
        case InvalidResponse():
            return f"what answers at {where} is not Redis: check host and port in LLM_QUEUE_REDIS_URL"
        case TimeoutError():
            return f"Redis at {where} does not answer: is it overloaded, frozen or behind a firewall?"
        case ResponseError():
            return f"Redis at {where} refuses: {error}"
        case _:
            return f"Redis cannot be reached at {where}: start it, or set LLM_QUEUE_REDIS_URL ({error})"
