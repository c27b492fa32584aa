"""One hash tag before every key: all keys of a queue then lie in one slot of a Redis in cluster mode.

The tag is put on where commands are made into bytes: all else, and what it calls the keys, is as it is
without one. Channels bear no tag: a cluster publishes to all its nodes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar, cast

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection

from ..names import KEY_PREFIX

#: A key that never exists, which each call of a function names as its last one. Redis looks for the named
#: keys before it runs a function. So while another node takes the slot over key by key, a function is refused
#: before it has changed anything, and does not run where only a part of the slot is. It is named as a job is,
#: for every user has a right to those.
FENCE = f"{KEY_PREFIX}job:fence"

Arguments = tuple[Any, ...]

_SUBSCRIBING = frozenset({"PSUBSCRIBE", "PUBLISH", "PUBSUB", "PUNSUBSCRIBE", "SUBSCRIBE", "UNSUBSCRIBE"})
_OF_THE_SERVER = frozenset(
    {"ACL", "CLUSTER", "COMMAND", "CONFIG", "DBSIZE", "FLUSHALL", "FLUSHDB", "INFO", "TIME"}
)
_OF_A_SESSION = frozenset({"AUTH", "CLIENT", "DISCARD", "EXEC", "HELLO", "MULTI", "PING", "QUIT", "SELECT"})
_KEYLESS = _SUBSCRIBING | _OF_THE_SERVER | _OF_A_SESSION | {"FUNCTION", "SCAN", "SCRIPT", "UNWATCH"}


def hash_tag(tag: str) -> str:
    """What stands before every key; nothing without a tag."""
    return f"{{{tag}}}" if tag else ""


def tagged_command(prefix: str, command: Arguments) -> Arguments:
    """A command as redis-py has it, its keys with `prefix` before them."""
    name = str(command[0]).upper()
    rule = _RULES.get(name)
    if rule is not None:
        return rule(prefix, command)
    if len(command) < 2 or name.partition(" ")[0] in _KEYLESS:
        return command
    return (command[0], _tagged(prefix, command[1]), *command[2:])


def key_prefix_of(redis: Redis) -> str:
    """The hash tag before the keys of this client; empty without one."""
    return str(getattr(redis.connection_pool.connection_class, "key_prefix", ""))


class TaggedConnection(AbstractConnection):
    """A connection whose commands' keys bear the hash tag."""

    key_prefix: ClassVar[str]

    def pack_command(self, *args: Any) -> list[bytes]:
        """The bytes of a command, its keys tagged."""
        return super().pack_command(*tagged_command(self.key_prefix, args))


def tagged[C: type](connection_class: C, tag: str, mixin: type = TaggedConnection) -> C:
    """The same connection with the tag before its keys, which `mixin` puts there; without a tag, the same."""
    if not tag:
        return connection_class
    kind = type(connection_class.__name__, (mixin, connection_class), {"key_prefix": hash_tag(tag)})
    return cast("C", kind)


def _tagged(prefix: str, key: Any) -> Any:
    return prefix.encode() + key if isinstance(key, bytes) else f"{prefix}{key}"


def _all(prefix: str, keys: Sequence[Any]) -> Arguments:
    return tuple([_tagged(prefix, key) for key in keys])


def _only_keys(prefix: str, command: Arguments) -> Arguments:
    return (command[0], *_all(prefix, command[1:]))


def _keys_then_timeout(prefix: str, command: Arguments) -> Arguments:
    return (command[0], *_all(prefix, command[1:-1]), command[-1])


def _counted_keys(prefix: str, command: Arguments) -> Arguments:
    end = 3 + int(command[2])
    return (*command[:3], *_all(prefix, command[3:end]), *command[end:])


def _function(prefix: str, command: Arguments) -> Arguments:
    count = int(command[2])
    end = 3 + count
    return (*command[:2], count + 1, *_all(prefix, command[3:end]), f"{prefix}{FENCE}", *command[end:])


def _dry_run(prefix: str, command: Arguments) -> Arguments:
    return (*command[:2], *tagged_command(prefix, command[2:]))


_RULES: dict[str, Callable[[str, Arguments], Arguments]] = {
    **dict.fromkeys(("DEL", "EXISTS", "MGET", "RENAME", "TOUCH", "UNLINK", "WATCH"), _only_keys),
    **dict.fromkeys(("BLPOP", "BRPOP"), _keys_then_timeout),
    **dict.fromkeys(("BLMPOP", "EVAL", "EVALSHA"), _counted_keys),
    "FCALL": _function,
    "ACL DRYRUN": _dry_run,
}
