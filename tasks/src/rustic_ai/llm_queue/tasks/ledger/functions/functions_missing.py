from __future__ import annotations

import inspect

from redis.exceptions import ResponseError


class FunctionsMissing(ResponseError):
    """The ledger's functions are not in this Redis, and this user may not load them.

    A worker of the same release loads them when it starts, `llm-queue load-functions` without one.
    """

    def __init__(self) -> None:
        super().__init__(inspect.cleandoc(type(self).__doc__ or ""))
