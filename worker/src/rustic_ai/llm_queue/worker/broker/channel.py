"""kombu's Redis channels, consuming without acknowledgements and delivering only what was checked."""

from __future__ import annotations

import re
import ssl
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from queue import Empty
from time import monotonic
from typing import Any

import redis
from kombu.transport import redis as kombu_redis
from kombu.transport import virtual
from kombu.utils.encoding import bytes_to_str
from redis.backoff import NoBackoff
from redis.retry import Retry

from rustic_ai.llm_queue.tasks.connection.key_tag import hash_tag, tagged
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

from .key_tag import TaggedConnection
from .messages import InvalidMessage, parse_broadcast, parse_wakeup
from .quarantine import DEFAULT_CAP, Quarantine

logger = get_logger(__name__)

SENTINEL_SCHEME = "llmq-sentinel"
#: Few enough that a burst spreads over idle workers.
_MOST_AT_ONCE = 16
#: For the rest of a broadcast that has begun to arrive, in seconds.
_READ_S = 1.0
_REPLY_QUEUE = re.compile(r".+\.reply\.[^.]+\.pidbox")


class WakeupQoS(virtual.QoS):
    """Remembers no delivery, so nothing waits for an acknowledgement and nothing is restored."""

    restore_at_shutdown = False
    #: How many more messages the consumer takes now. Unset, they are popped one at a time.
    room: Callable[[], int] | None = None

    def can_consume(self) -> bool:
        """Whether messages may be popped: places that are reserved are filled another way."""
        has_room = self.room is None or self.room() > 0
        return has_room and bool(super().can_consume())  # type: ignore[no-untyped-call]  # kombu is untyped

    def append(self, message: Any, delivery_tag: str) -> None:
        """Nothing is kept."""

    def ack(self, delivery_tag: str) -> None:
        """Nothing was kept."""

    def reject(self, delivery_tag: str, requeue: bool = False) -> None:
        """Nothing was kept; the ledger announces the job again."""


# A mix-in for two of kombu's channels; what it finds on them is untyped.
_Mixin: Any = object


class Wakeups(_Mixin):  # type: ignore[misc]  # see above
    """Consumes without acknowledging, and delivers nothing that was not checked first."""

    QoS = WakeupQoS
    do_restore = False
    #: kombu's default waits for ever on a server that does not answer. Seconds; a transport option.
    socket_timeout = 10.0
    _publisher: Any = None
    _pops_many = False
    _reading = False

    @property
    def quarantine(self) -> Quarantine:
        cap = self.connection.client.transport_options.get("quarantine_cap", DEFAULT_CAP)
        return Quarantine(redis.Redis(connection_pool=self.pool), cap)

    @contextmanager
    def conn_or_acquire(self, client: Any = None) -> Iterator[Any]:
        # kombu makes a new client for each message; that costs more than sending it.
        if self._publisher is None or self._publisher.connection_pool is not self.pool:
            self._publisher = self._create_client()
        yield client or self._publisher

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # redis-py would try each command four times: a server that does not answer would hold up
        # the worker's end for minutes. One more try is for a connection that died while idle; one
        # that listens must not come back by itself, which nobody would notice.
        retry = Retry(NoBackoff(), 0 if asynchronous else 1, supported_errors=(redis.ConnectionError,))
        params: dict[str, Any] = super()._connparams(asynchronous)
        params["connection_class"] = tagged(params["connection_class"], self._key_tag, TaggedConnection)
        return {"retry": retry, **params}

    @property
    def _key_tag(self) -> str:
        return str(self.connection.client.transport_options.get("key_tag", ""))

    def sweep_bindings(self, limit: int = 100) -> Any:
        # kombu's own, but for the tag: the script makes keys out of what it is given.
        tag = hash_tag(self._key_tag)
        tables = [f"{tag}{key % ''}" for key in (self.keyprefix_queue, self.keyprefix_binding_permanent)]
        with self.conn_or_acquire() as client:
            keys = [self.keyprefix_binding_deadlines]
            return self._sweep_bindings(keys=keys, args=[*tables, limit], client=client)

    def _basic_cancel(self, consumer_tag: str) -> Any:
        cancelled = super()._basic_cancel(consumer_tag)
        # Celery also cancels in a signal handler, which may have interrupted the reading of a pop:
        # that gives back what it reads.
        if self._in_poll and not self.active_queues and not self._reading:
            self._settle_pop()
        return cancelled

    def _settle_pop(self) -> None:
        # The pop in flight may still take a message; left in the socket it would wait there
        # for as long as this worker drains.
        connection: Any = self._in_poll
        try:
            # The second look: a signal's handler may have taken longer than the first one waits.
            if connection.can_read(timeout=self.brpop_timeout + 1) or connection.can_read(timeout=0):
                self._brpop_read()
            else:
                connection.disconnect()
        except Empty:
            return
        except (redis.RedisError, OSError) as error:
            logger.warning("Redis went away while consuming was being stopped: %s", type(error).__name__)

    def _brpop_start(self, timeout: float | None = None) -> None:
        room = self.qos.room() if self.qos.room is not None else 1
        self._pops_many = room > 1 and not self.global_keyprefix
        if not self._pops_many:
            super()._brpop_start(timeout)
            return
        queues = self._queue_cycle.consume(len(self.active_queues))
        keys = [self._q_for_pri(queue, priority) for priority in self.priority_steps for queue in queues]
        if not keys:
            return
        self._in_poll = self.client.connection
        self._brpop_sent_at = monotonic()
        wait_s = timeout or self.brpop_timeout
        command = ("BLMPOP", wait_s, len(keys), *keys, "RIGHT", "COUNT", min(room, _MOST_AT_ONCE))
        self.client.connection.send_command(*command)

    def _brpop_read(self, **options: Any) -> bool:
        command = "BLMPOP" if self._pops_many else "BRPOP"
        self._reading = True
        try:
            reply = self.client.parse_response(self.client.connection, command, **options)
        except self.ResponseError as error:
            if not _is_wrong_type(error):
                raise
            # Otherwise every pop of every worker would fail until somebody removes the key.
            for queue in self.active_queues:
                for priority in self.priority_steps:
                    self.quarantine.add_key(self.global_keyprefix + self._q_for_pri(queue, priority))
            raise Empty from None
        except self.connection_errors:
            # Disconnected, the next iteration connects anew.
            self.client.connection.disconnect()
            raise
        finally:
            self._reading = False
            self._in_poll = None
            self._flush_brpop_reauth()
        if not reply:
            raise Empty
        key, popped = reply
        name = bytes_to_str(key).removeprefix(hash_tag(self._key_tag))
        self._take(name, popped if self._pops_many else [popped])
        return True

    def deliver(self, wakeups: Sequence[str]) -> None:
        """Take up wake-ups that came another way, for as long as this channel consumes their queue."""
        for queue in self.active_queues:
            for wakeup in wakeups:
                if not self._closing and queue in self.connection._callbacks:
                    self._take_one(queue, wakeup.encode())

    def _take(self, key: str, items: list[bytes]) -> None:
        queue = key.rsplit(self.sep, 1)[0]
        self._queue_cycle.rotate(queue)
        left = deque(items)
        try:
            while left and not self._closing and queue in self.connection._callbacks:
                self._take_one(queue, left.popleft())
        finally:
            if left:
                self._give_back(key, left)

    def _take_one(self, queue: str, item: bytes) -> None:
        try:
            if _REPLY_QUEUE.fullmatch(queue):
                envelope = parse_broadcast(item, "reply.pidbox")
            else:
                envelope = parse_wakeup(item, queue)
        except InvalidMessage as error:
            self.quarantine.add(item, queue, str(error))
        else:
            self.connection._callbacks[queue](envelope)

    def _give_back(self, key: str, items: deque[bytes]) -> None:
        # To the end that is popped, the first of them outermost: their turn had come.
        try:
            with self.conn_or_acquire() as client:
                client.rpush(key, *reversed(items))
        except redis.RedisError as error:
            logger.warning(
                "%d messages could not be put back on %r: %s", len(items), key, type(error).__name__
            )

    def _receive_one(self, c: Any) -> bool:
        try:
            # Never without a bound: the worker's main thread would wait here for good.
            response = c.parse_response(block=False, timeout=_READ_S)
        except self.connection_errors:
            self._in_listen = None
            raise
        if not isinstance(response, list | tuple):
            return False
        message = self._handle_message(c, response)
        if not bytes_to_str(message["type"]).endswith("message") or not message["data"]:
            return False
        self._take_broadcast(bytes_to_str(message["channel"]), message["data"])
        return True

    def _take_broadcast(self, channel: str, item: bytes) -> None:
        name = channel.partition(".")[2] if channel.startswith("/") else channel
        exchange = name.split("/", 1)[0]
        try:
            envelope = parse_broadcast(item, exchange)
            if exchange not in self._fanout_to_queue:
                raise InvalidMessage("nobody listens to this exchange")
        except InvalidMessage as error:
            self.quarantine.add(item, channel, str(error))
            return
        try:
            self._deliver_fanout_message(envelope, exchange)
        except (redis.RedisError, OSError):
            raise
        except Exception as error:
            # One more command that nobody can carry out must not stop the worker.
            self.quarantine.add(item, channel, f"{type(error).__name__} in its handler")

    def _size(self, queue: str) -> int:
        try:
            return int(super()._size(queue))
        except self.ResponseError as error:
            if not _is_wrong_type(error):
                raise
            # Declaring a queue asks for it; the pop that follows moves the key away.
            return 0


class WakeupChannel(Wakeups, kombu_redis.Channel):  # type: ignore[misc]  # kombu is untyped
    """A channel to one Redis server."""


class TlsWakeupChannel(WakeupChannel):
    """A channel over TLS that checks the server's certificate unless the URL says otherwise."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        # kombu knows only its own scheme for TLS; without this ours would speak plain text.
        self.connection.client.ssl = self.connection.client.ssl or {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        return super()._connparams(asynchronous)


class SentinelWakeupChannel(Wakeups, kombu_redis.SentinelChannel):  # type: ignore[misc]  # kombu is untyped
    """A channel to the master that Sentinel names."""

    def _sentinel_managed_pool(self, asynchronous: bool = False) -> Any:
        client = self.connection.client
        ours = client.alt
        # kombu takes only URLs of its own scheme for further sentinels.
        client.alt = [url.replace(SENTINEL_SCHEME, "sentinel", 1) for url in ours]
        try:
            return super()._sentinel_managed_pool(asynchronous)  # type: ignore[no-untyped-call]  # kombu's
        finally:
            client.alt = ours


def _is_wrong_type(error: Exception) -> bool:
    return "WRONGTYPE" in str(error)
