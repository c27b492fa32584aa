from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hiredis import pack_command
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import DataError, ResponseError

from .redis_errors import cluster_met, not_ready


class CheckedConnection(AbstractConnection):
    """A connection that reports when the other side has closed it, and when Redis is not ready.

    asyncio's `writelines` fails on a closed transport with `TypeError: 'NoneType' object is not callable`
    (CPython 3.13.0), which nobody takes for an outage.
    """

    def pack_command(self, *args: Any) -> list[bytes]:
        """The command as Redis reads it. Raises `DataError` for what is neither text, bytes nor a number.

        By hiredis, as redis-py's synchronous connections do; its asynchronous ones take six times as long.
        """
        name: str | bytes = args[0]
        words = (name.encode() if isinstance(name, str) else name).split()
        try:
            return [pack_command((*words, *args[1:]))]
        except TypeError as error:
            raise DataError(f"an argument of {words[0]!r} cannot be sent: {error}") from None

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        writer: Any = self._writer
        if writer is None or writer.transport.is_closing():
            raise ConnectionResetError("the other side has closed the connection")
        await super()._send_packed_command(command)

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Raises `RedisNotReady` in place of a plain `ResponseError`, for the retries look for that; and
        `ClusterMet`."""
        try:
            return await super().read_response(*args, **kwargs)
        except ResponseError as error:
            meant = not_ready(error) or cluster_met(error)
            if meant is None:
                raise
            raise meant from None


def checked(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same connection, checked."""
    return type(connection_class.__name__, (CheckedConnection, connection_class), {})
