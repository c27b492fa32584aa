"""The hash tag before keys, and the way to its slot's node, for the connections of kombu's channels.

`tasks.connection` has the same for asyncio, and says why.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, ClassVar

import redis
from redis.exceptions import AskError, ClusterDownError, MovedError, RedisError, TryAgainError

from rustic_ai.llm_queue.tasks.connection.key_tag import tagged_command
from rustic_ai.llm_queue.tasks.connection.redis_errors import LOGIN_ERRORS
from rustic_ai.llm_queue.tasks.connection.slot import Address, Slot
from rustic_ai.llm_queue.tasks.connection.slot_connection import NoOwner, SlotMoved, asking_options

# A mix-in for whatever connection kombu's channels have.
_Mixin: Any = object


class TaggedConnection(_Mixin):  # type: ignore[misc]  # see above
    """A connection whose commands' keys bear the hash tag."""

    key_prefix: ClassVar[str]

    def send_command(self, *args: Any, **kwargs: Any) -> None:
        super().send_command(*tagged_command(self.key_prefix, args), **kwargs)

    def pack_command(self, *args: Any) -> Any:
        return super().pack_command(*tagged_command(self.key_prefix, args))

    def pack_commands(self, commands: Iterable[tuple[Any, ...]]) -> Any:
        return super().pack_commands([tagged_command(self.key_prefix, tuple(one)) for one in commands])


class SlotConnection(redis.Connection):
    """A connection to the node that has the slot of the key tag.

    That another node has it, or is about to, is a lost connection to kombu: it connects anew.
    """

    _plain: ClassVar[Any] = redis.Connection

    def __init__(self, *, slot: Slot, **options: Any) -> None:
        self._slot = slot
        self._asking = asking_options(options)
        super().__init__(**options)  # type: ignore[no-untyped-call]  # redis-py's

    def connect_check_health(self, check_health: bool = True, retry_socket_connect: bool = True) -> None:
        if self.is_connected:
            return
        self.host, self.port = self._slot.owner or self._find()
        try:
            super().connect_check_health(check_health, retry_socket_connect=False)
        except (redis.ConnectionError, redis.TimeoutError):
            self._slot.lost((self.host, self.port))
            raise

    def read_response(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return super().read_response(*args, **kwargs)
        except MovedError as error:
            self._slot.moved(error, (self.host, self.port))
            self._leave()
            raise SlotMoved("another node of the cluster has the key tag's slot now") from None
        except (AskError, TryAgainError) as error:
            self._leave()
            raise redis.ConnectionError(
                f"the key tag's slot is on its way to another node: {error}"
            ) from None
        except (redis.ConnectionError, redis.TimeoutError):
            self._slot.lost((self.host, self.port))
            raise
        except ClusterDownError as error:
            self._slot.lost((self.host, self.port))
            self._leave()
            raise redis.ConnectionError(str(error)) from None

    def _leave(self) -> None:
        self.disconnect()  # type: ignore[no-untyped-call]  # redis-py's

    def _find(self) -> Address:
        failure: Exception | None = None
        for host, port in self._slot.to_ask():
            connection = self._plain(host=host, port=port, **self._asking)
            try:
                connection.connect()
                connection.send_command("CLUSTER", "SLOTS", check_health=False)
                owner = self._slot.learn(connection.read_response(), (host, port))
            except LOGIN_ERRORS:
                raise
            except (RedisError, OSError) as error:
                failure = error
            else:
                if owner is not None:
                    return owner
            finally:
                connection.disconnect()
        raise failure or NoOwner("no node of the cluster has the key tag's slot")


class TlsSlotConnection(SlotConnection, redis.SSLConnection):
    """The same over TLS."""

    _plain = redis.SSLConnection
