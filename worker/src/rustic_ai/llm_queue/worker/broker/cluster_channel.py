"""kombu's Redis channels to a Redis in cluster mode: all keys of the queue are in the slot of one tag."""

from __future__ import annotations

import ssl
from functools import cached_property
from typing import Any

from kombu.transport import redis as kombu_redis

from rustic_ai.llm_queue.tasks.connection.slot import Slot

from .channel import Wakeups
from .key_tag import SlotConnection, TlsSlotConnection


class ClusterWakeupChannel(Wakeups, kombu_redis.Channel):  # type: ignore[misc]  # kombu is untyped
    """A channel to the node that has the key tag's slot."""

    connection_class: Any = SlotConnection
    connection_class_ssl: Any = TlsSlotConnection

    @cached_property
    def _slot(self) -> Slot:
        nodes = self.connection.client.transport_options["nodes"]
        return Slot(self._key_tag, [(host, int(port)) for host, port in nodes])

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        return {**super()._connparams(asynchronous), "slot": self._slot}


class TlsClusterWakeupChannel(ClusterWakeupChannel):
    """The same over TLS, which checks the servers' certificates unless the URL says otherwise."""

    def _connparams(self, asynchronous: bool = False) -> dict[str, Any]:
        self.connection.client.ssl = self.connection.client.ssl or {"ssl_cert_reqs": ssl.CERT_REQUIRED}
        return super()._connparams(asynchronous)
