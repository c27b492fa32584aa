from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from redis.asyncio.connection import AbstractConnection


class CheckedConnection(AbstractConnection):
    """A connection that, once closed by the other side, says so.

    asyncio's `writelines` fails on a closed transport with `TypeError: 'NoneType' object is not callable`
    (CPython 3.13.0), which nobody takes for an outage.
    """

    async def _send_packed_command(self, command: Iterable[bytes]) -> None:
        writer: Any = self._writer
        if writer is None or writer.transport.is_closing():
            raise ConnectionResetError("the other side has closed the connection")
        await super()._send_packed_command(command)


def checked(connection_class: type[AbstractConnection]) -> type[AbstractConnection]:
    """The same connection, checked."""
    return type(connection_class.__name__, (CheckedConnection, connection_class), {})
