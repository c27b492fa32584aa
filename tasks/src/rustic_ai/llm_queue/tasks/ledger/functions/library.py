"""The ledger's Lua functions, which Redis runs one at a time: every change of a job's state is one of them.

They are loaded as a function library, so that an ACL can allow exactly these (`+fcall`) and no script
of any other user. The library's name holds a hash of its text: two releases run side by side on one
server.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from functools import cache
from importlib import resources
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, ResponseError

from ...connection.cluster_mode import load_functions
from ...connection.key_tag import key_prefix_of
from ...names import KEY_PREFIX
from .. import keys
from ..wakeup_message import wakeup_template
from .functions_missing import FunctionsMissing
from .gathered_calls import GatheredCalls

#: The parts, in the order in which each uses only what stands before it.
_SHARED_PARTS = ("records", "streams", "books", "wakeups", "turns", "flights", "budgets", "limits", "endings")
#: Those that no other uses: each in a block, for Lua allows a chunk 200 local names at once.
_OWN_PARTS = ("submits", "claims", "admission", "steering", "repairs", "dead", "sweep", "reserve")


@cache
def library_name(prefix: str = "") -> str:
    """The name of this release's library; a function is called `<library>_<function>`.

    Args:
        prefix: what stands before every key: a key tag makes a library of its own.
    """
    return f"llmq_{hashlib.sha256(_body(prefix).encode()).hexdigest()[:12]}"


@cache
def library_source(prefix: str = "") -> str:
    """The whole library, as `FUNCTION LOAD` takes it."""
    name = library_name(prefix)
    return f"#!lua name={name}\nlocal LIBRARY = '{name}'\n{_body(prefix)}"


@cache
def _body(prefix: str) -> str:
    own = (f"do\n{_text(part)}end\n" for part in _OWN_PARTS)
    return "\n".join([_key_names(prefix), *map(_text, _SHARED_PARTS), *own])


@cache
def _text(part: str) -> str:
    return (resources.files(__package__) / f"{part}.lua").read_text(encoding="utf-8")


def _key_names(prefix: str) -> str:
    """The constants of `keys.py`, and the wake-ups' template, as Lua locals of the same names."""
    constants = {name: value for name, value in vars(keys).items() if name.isupper()}
    named = {
        name for name, value in constants.items() if str(value).startswith((KEY_PREFIX, keys.RESULT_PREFIX))
    }
    constants |= {name: f"{prefix}{constants[name]}" for name in named - keys.CHANNELS}
    constants |= {"WAKEUP": wakeup_template(), "TAG": prefix}
    return "".join(
        f"local {name} = {value}\n" if isinstance(value, int) else f"local {name} = [==[{value}]==]\n"
        for name, value in constants.items()
        if isinstance(value, int | str)
    )


class FunctionLibrary:
    """The functions as one Redis client calls them."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._prefix = key_prefix_of(redis)
        self._calls = GatheredCalls(redis)

    async def call(
        self, function: str, names: Sequence[str], args: Sequence[Any], *, alone: bool = False
    ) -> Any:
        """Call a function on the keys `names`, and load the library first where it is missing.

        Args:
            alone: not together with other calls. A caller that gives up then takes its command along, which
                otherwise may be sent once more after a lost connection.

        Raises redis-py's `ConnectionError`, `TimeoutError` and `ResponseError`, and `FunctionsMissing`.
        """
        command = ("FCALL", f"{library_name(self._prefix)}_{function}", len(names), *names, *args)
        try:
            return await self._send(command, alone)
        except ResponseError as error:
            if "Function not found" not in str(error):
                raise
        await self.load()
        return await self._send(command, alone)

    async def _send(self, command: Sequence[Any], alone: bool) -> Any:
        if alone:
            return await self._redis.execute_command(*command)
        return await self._calls.call(command)

    async def load(self) -> None:
        """Load the functions into Redis; loading them twice does nothing.

        Raises `FunctionsMissing` when they are not there and this user may not load them.
        """
        try:
            await load_functions(self._redis, library_source(self._prefix))
        except NoPermissionError:
            raise FunctionsMissing from None
        except ResponseError as error:
            if "already exists" not in str(error):
                raise


# Read with the module's import: the first call, on an event loop, shall not have to read files.
library_source()
