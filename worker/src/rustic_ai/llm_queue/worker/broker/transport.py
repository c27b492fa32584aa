"""A kombu transport whose messages are wake-ups: nothing is acknowledged, nothing restored.

The ledger repairs every lost message, so kombu's unacked machinery has nothing to add.
"""

from __future__ import annotations

from urllib.parse import quote

from kombu.transport import TRANSPORT_ALIASES
from kombu.transport import redis as kombu_redis

from rustic_ai.llm_queue.tasks.connection.redis_url import CLUSTER_SCHEMES, SentinelUrl

from .channel import SENTINEL_SCHEME, SentinelWakeupChannel, TlsWakeupChannel, WakeupChannel
from .cluster_channel import ClusterWakeupChannel, TlsClusterWakeupChannel

#: Our scheme for each scheme of a Redis URL. kombu takes a `+` in a scheme for two URLs in one,
#: hence the hyphen.
SCHEMES = {
    "redis": "llmq-redis",
    "rediss": "llmq-rediss",
    "sentinel": SENTINEL_SCHEME,
    "redis+cluster": "llmq-redis-cluster",
    "rediss+cluster": "llmq-rediss-cluster",
}


def register_transport() -> None:
    """Make kombu know our URL schemes. Calling it twice is safe."""
    TRANSPORT_ALIASES[SCHEMES["redis"]] = f"{__name__}:WakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["rediss"]] = f"{__name__}:TlsWakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["sentinel"]] = f"{__name__}:SentinelWakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["redis+cluster"]] = f"{__name__}:ClusterWakeupTransport"
    TRANSPORT_ALIASES[SCHEMES["rediss+cluster"]] = f"{__name__}:TlsClusterWakeupTransport"


def broker_url(redis_url: str) -> str:
    """Celery's `broker_url` for a Redis URL.

    A Sentinel URL also needs the transport option `master_name`, and `broker_use_ssl` for TLS; a cluster's
    needs the options `key_tag` and `nodes`. Raises `ValueError` for another scheme.
    """
    scheme, separator, rest = redis_url.partition("://")
    if not separator or scheme not in SCHEMES:
        raise ValueError(f"the URL's scheme is not one of {', '.join(SCHEMES)}")
    if scheme in CLUSTER_SCHEMES:
        # One address, for kombu reads no more; the transport's option has them all.
        address, _, query = rest.partition("?")
        return f"{SCHEMES[scheme]}://{address.partition(';')[0].rstrip('/')}/0" + (
            f"?{query}" if query else ""
        )
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


class ClusterWakeupTransport(kombu_redis.Transport):
    """For `llmq-redis-cluster://`."""

    Channel = ClusterWakeupChannel


class TlsClusterWakeupTransport(kombu_redis.Transport):
    """For `llmq-rediss-cluster://`."""

    Channel = TlsClusterWakeupChannel


class SentinelWakeupTransport(kombu_redis.SentinelTransport):
    """For `llmq-sentinel://`."""

    Channel = SentinelWakeupChannel
