"""A kombu transport whose messages are wake-ups: nothing is acknowledged, nothing restored.

The ledger repairs every lost message, so kombu's unacked machinery has nothing to add.
"""

from __future__ import annotations

import logging
import ssl
from queue import Empty
from typing import TYPE_CHECKING, Any

import redis
from kombu.transport import TRANSPORT_ALIASES, virtual
from kombu.transport import redis as kombu_redis
from kombu.utils.encoding import bytes_to_str
from kombu.utils.objects import cached_property

from .quarantine import Quarantine
from .redis_client import SentinelUrl

logger = logging.getLogger(__name__)

#: kombu takes a `+` in a scheme for two URLs in one, hence the hyphen.
SCHEMES = {"redis": "llmq-redis", "rediss": "llmq-rediss", "sentinel": "llmq-sentinel"}


def register_transport() -> None:
    """Make kombu know our URL schemes. Calling it twice is safe."""
    TRANSPORT_ALIASES[SCHEMES["redis"]] = f"{__name__}:WakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["rediss"]] = f"{__name__}:TLSWakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["sentinel"]] = f"{__name__}:SentinelWakeupTransport"


def broker_conf(redis_url: str) -> dict[str, Any]:
    """Celery's `broker_url` and `broker_transport_options` for a Redis URL of ours.

    Raises `ValueError` for a URL that names no scheme of ours, or a Sentinel URL without a master.
    """
    scheme, separator, rest = redis_url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"the URL's scheme is not one of {', '.join(SCHEMES)}")
    if scheme != "sentinel":
        return {"broker_url": f"{SCHEMES[scheme]}://{rest}", "broker_transport_options": {}}
    target = SentinelUrl.parse(redis_url)
    credentials = rest.rpartition("@")[0]
    prefix = f"{SCHEMES[scheme]}://{credentials}@" if credentials else f"{SCHEMES[scheme]}://"
    conf: dict[str, Any] = {
        "broker_url": ";".join(f"{prefix}{host}:{port}/{target.db}" for host, port in target.hosts),
        "broker_transport_options": {"master_name": target.master},
    }
    if target.options.get("tls") == "1":
        conf["broker_use_ssl"] = {"ssl_cert_reqs": ssl.CERT_REQUIRED}
    return conf


class WrongKeyType(Exception):
    """A key that should be a queue holds something else."""


class WakeupQoS(virtual.QoS):
    """Remembers no delivery, so nothing waits for an acknowledgement and nothing is restored."""

    restore_at_shutdown = False

    def append(self, message: Any, delivery_tag: str) -> None: ...

    def ack(self, delivery_tag: str) -> None: ...

    def reject(self, delivery_tag: str, requeue: bool = False) -> None: ...


if TYPE_CHECKING:
    _Base = kombu_redis.Channel
else:
    _Base = object


class _WakeupChannel(_Base):
    """What our channels change in kombu's, for plain Redis and for Sentinel alike."""

    QoS = WakeupQoS
    do_restore = False
    ack_emulation = False
    quarantine_cap = 1000

    from_transport_options = (*kombu_redis.Channel.from_transport_options, "quarantine_cap")

    @cached_property
    def quarantine(self) -> Quarantine:
        return Quarantine(redis.Redis(connection_pool=self.pool), self.quarantine_cap)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.QoS = WakeupQoS

    def basic_consume(self, queue: str, no_ack: bool, *args: Any, **kwargs: Any) -> Any:
        return super().basic_consume(queue, True, *args, **kwargs)

    def basic_ack(self, delivery_tag: str, multiple: bool = False) -> None: ...

    def basic_reject(self, delivery_tag: str, requeue: bool = False) -> None: ...

    def _basic_cancel(self, consumer_tag: str) -> Any:
        cancelled = super()._basic_cancel(consumer_tag)
        if self._in_poll and not self.active_queues:
            self._settle_pop()
        return cancelled

    def _settle_pop(self) -> None:
        # The pop in flight may still take a message; left in the socket it would wait there
        # for as long as this worker drains.
        connection = self._in_poll
        try:
            if connection.can_read(timeout=self.brpop_timeout + 1):
                self._brpop_read()
            else:
                connection.disconnect()
        except Empty:
            return
        except redis.RedisError, OSError:
            logger.warning("Redis went away while consuming was being stopped")

    def _brpop_read(self, **options: Any) -> bool:
        keys = self._popped_keys
        try:
            reply = self.client.parse_response(self.client.connection, "BRPOP", **options)
        except self.ResponseError as error:
            if not str(error).startswith("WRONGTYPE"):
                raise
            for key in keys:
                self.quarantine.add_key(key)
            raise Empty from None
        except self.connection_errors:
            # Disconnected, the next iteration connects anew.
            self.client.connection.disconnect()
            raise
        finally:
            self._in_poll = None
            self._flush_brpop_reauth()
        if not reply:
            raise Empty
        key, item = reply
        self._take(bytes_to_str(key), item)
        return True
