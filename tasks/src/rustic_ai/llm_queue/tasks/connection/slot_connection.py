"""Connections to the node of a cluster that has the slot of a key tag."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from redis.asyncio.connection import Connection, SSLConnection
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .redis_errors import LOGIN_ERRORS
from .slot import Address, Slot

#: What a connection that only asks for the slot has in common with the others.
_OF_ALL = frozenset({"username", "password", "socket_timeout", "socket_connect_timeout", "socket_type"})


class SlotMoved(RedisConnectionError):
    """Another node has the slot now: the command was not carried out, and is tried there."""


class NoOwner(RedisConnectionError):
    """No node that answers knows which one has the slot."""


class SlotConnection(Connection):
    """A connection that looks for the slot's node when it connects, and again when that one has it no more.

    Args:
        slot: shared by the pool's connections.
    """

    _plain: ClassVar[type[Connection]] = Connection

    def __init__(self, *, slot: Slot, **options: Any) -> None:
        self._slot = slot
        self._asking = asking_options(options)
        super().__init__(**options)

    async def connect_check_health(
        self, check_health: bool = True, retry_socket_connect: bool = True
    ) -> None:
        if self.is_connected:
            return
        self.host, self.port = self._slot.owner or await self._find()
        try:
            await super().connect_check_health(check_health, retry_socket_connect=False)
        except (RedisConnectionError, RedisTimeoutError):
            self._slot.lost((self.host, self.port))
            raise

    async def read_response(self, *args: Any, **kwargs: Any) -> Any:
        """Raises `SlotMoved`; and `TryAgainError` while the slot is on its way to another node."""
        try:
            return await super().read_response(*args, **kwargs)
        except MovedError as error:
            self._slot.moved(error, (self.host, self.port))
            await self.disconnect()
            raise SlotMoved("another node of the cluster has the key tag's slot now") from None
        except AskError as error:
            # Followed, a function would run where only a part of the slot is.
            raise TryAgainError(str(error)) from None
        except (RedisConnectionError, RedisTimeoutError):
            self._slot.lost((self.host, self.port))
            raise
        except ClusterDownError:
            # A node that has lost sight of the others does not notice that they have chosen another owner.
            self._slot.lost((self.host, self.port))
            await self.disconnect()
            raise

    async def _find(self) -> Address:
        failure: Exception | None = None
        for host, port in self._slot.to_ask():
            connection = self._plain(host=host, port=port, **self._asking)
            try:
                await connection.connect()
                await connection.send_command("CLUSTER", "SLOTS", check_health=False)
                owner = self._slot.learn(await connection.read_response(), (host, port))
            except LOGIN_ERRORS:
                raise
            except (RedisError, OSError) as error:
                failure = error
            else:
                if owner is not None:
                    return owner
            finally:
                await connection.disconnect(nowait=True)
        if failure is not None:
            raise failure
        raise NoOwner("no node of the cluster has the key tag's slot")


class TlsSlotConnection(SlotConnection, SSLConnection):
    """The same over TLS."""

    _plain = SSLConnection


def asking_options(options: Mapping[str, Any]) -> dict[str, Any]:
    """Of a connection's options, those that one needs which only asks a node something."""
    return {name: value for name, value in options.items() if name in _OF_ALL or name.startswith("ssl_")}
