"""A kombu transport whose messages are wake-ups: nothing is acknowledged, nothing restored.

The ledger repairs every lost message, so kombu's unacked machinery has nothing to add.
"""

from __future__ import annotations

from urllib.parse import quote

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from rustic_ai.llm_queue.tasks.connection.redis_url import SentinelUrl

from .channel import SENTINEL_SCHEME, SentinelWakeupChannel, TlsWakeupChannel, WakeupChannel

#: Our scheme for each scheme of a Redis URL. kombu takes a `+` in a scheme for two URLs in one,
#: hence the hyphen.
SCHEMES = {"redis": "llmq-redis", "rediss": "llmq-rediss", "sentinel": SENTINEL_SCHEME}


def register_transport() -> None:
    """Make kombu know our URL schemes. Calling it twice is safe."""
    TRANSPORT_ALIASES[SCHEMES["redis"]] = f"{__name__}:WakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["rediss"]] = f"{__name__}:TlsWakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["sentinel"]] = f"{__name__}:SentinelWakeupTransport"


def broker_url(redis_url: str) -> str:
    """Celery's `broker_url` for a `redis://`, `rediss://` or `sentinel://` URL.

    A Sentinel URL also needs the transport option `master_name`, and `broker_use_ssl` for TLS. Raises
    `ValueError` for another scheme.
    """
    scheme, separator, rest = redis_url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"the URL's scheme is not one of {', '.join(SCHEMES)}")
    if scheme != "sentinel":
        return f"{SCHEMES[scheme]}://{rest}"
    target = SentinelUrl.parse(redis_url)
    credentials = ""
    if target.username or target.password:
        credentials = f"{quote(target.username or '', safe='')}:{quote(target.password or '', safe='')}@"
    return ";".join(
        f"{SCHEMES[scheme]}://{credentials}{host}:{port}/{target.db}" for host, port in target.hosts
    )


class WakeupTransport(kombu_redis.Transport):
    """For `llmq-redis://`."""

    Channel = WakeupChannel


class TlsWakeupTransport(kombu_redis.Transport):
    """For `llmq-rediss://`."""

    Channel = TlsWakeupChannel


class SentinelWakeupTransport(kombu_redis.SentinelTransport):
    """For `llmq-sentinel://`."""

    Channel = SentinelWakeupChannel
