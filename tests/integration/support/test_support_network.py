"""The proxy, the Sentinels and the leak checks do what they say."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from redis.sentinel import Sentinel

from support.processes.leaks import assert_no_lasting_keys, assert_no_new_threads
from support.processes.wait import wait_until
from support.servers.certificate import make_certificate
from support.servers.proxy import TcpProxy
from support.servers.push_filter import Fate, PushFilter, reply_end
from support.servers.sentinel import SentinelCluster
from support.servers.valkey import ValkeyServer


@pytest.fixture
def proxy(valkey: ValkeyServer) -> Iterator[TcpProxy]:
    with TcpProxy(valkey.port) as proxy:
        yield proxy


def client_of(proxy: TcpProxy, **options: object) -> redis.Redis:
    options = {"socket_timeout": 0.3, "retry": None, "decode_responses": True, **options}
    return redis.Redis.from_url(proxy.redis_url, **options)


def test_the_proxy_forwards_and_delays(proxy: TcpProxy) -> None:
    with client_of(proxy, socket_timeout=5) as client:
        client.set("big", "x" * 1_000_000)
        assert client.strlen("big") == 1_000_000
        proxy.latency_s = 0.1
        started = time.monotonic()
        client.delete("big")
        assert time.monotonic() - started >= 0.2
        assert proxy.connections == 1
    wait_until(lambda: proxy.connections == 0, 5, "the proxy to see the client go")


def test_the_proxy_cuts_refuses_and_accepts_again(proxy: TcpProxy) -> None:
    with client_of(proxy) as client:
        client.ping()
        assert proxy.cut() == 1
        assert client.ping()
        assert proxy.accepted == 2
        proxy.refuse()
        proxy.cut()
        with pytest.raises(redis.ConnectionError, match="refused"):
            client.ping()
        proxy.accept()
        assert client.ping()


def test_a_blackhole_holds_everything_and_loses_nothing(proxy: TcpProxy, valkey: ValkeyServer) -> None:
    with client_of(proxy, client_name="held") as client, client_of(proxy) as late:
        client.ping()
        proxy.blackhole()
        with pytest.raises(redis.TimeoutError):
            client.set("sent", "in the dark", px=10_000)
        with pytest.raises(redis.TimeoutError):
            late.ping()
        assert "held" in [one["name"] for one in valkey.connections()]
        with valkey.client() as direct:
            assert direct.get("sent") is None
            proxy.heal()
            wait_until(lambda: direct.get("sent") == "in the dark", 5, "the held command")
        assert late.ping()


def test_tls_clients_check_the_certificate(valkey: ValkeyServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with TcpProxy(valkey.port, certificate=certificate) as proxy:
        assert proxy.redis_url.startswith("rediss://")
        with client_of(proxy, ssl_ca_certs=str(certificate.ca_path)) as client:
            assert client.ping()
        with client_of(proxy) as untrusting, pytest.raises(redis.ConnectionError, match="certificate"):
            untrusting.ping()


@pytest.mark.parametrize("protocol", [2, 3])
def test_messages_are_dropped_and_doubled(valkey: ValkeyServer, protocol: int) -> None:
    fates = {b"a": Fate.DROP, b"b": Fate.DOUBLE, b"c": Fate.DELIVER}
    with (
        TcpProxy(valkey.port, decide=lambda _, payload: fates[payload]) as proxy,
        client_of(proxy, protocol=protocol, socket_timeout=5) as client,
        valkey.client() as publisher,
        client.pubsub(ignore_subscribe_messages=True) as pubsub,
    ):
        pubsub.subscribe("news")
        pubsub.get_message(timeout=5)
        for payload in "abcac":
            publisher.publish("news", payload)
        received: list[str] = []
        while len(received) < 4:
            if message := pubsub.get_message(timeout=5):
                received.append(message["data"])
        assert received == ["b", "b", "c", "c"]


def test_the_filter_passes_other_replies_byte_for_byte_however_they_are_cut() -> None:
    message = b"*3\r\n$7\r\nmessage\r\n$1\r\nc\r\n$4\r\na\r\nb\r\n"
    pushed = b">4\r\n$8\r\npmessage\r\n$1\r\n*\r\n$1\r\nc\r\n$0\r\n\r\n"
    nested = b"*2\r\n*1\r\n:1\r\n%1\r\n$-1\r\n_\r\n"
    others = [
        b"+OK\r\n",
        b"-ERR no\r\n",
        b"$-1\r\n",
        b"*-1\r\n",
        nested,
        b"|1\r\n+k\r\n+v\r\n:7\r\n",
        b",1.5\r\n",
    ]
    data = message.join(others) + pushed + b"+END\r\n"
    expected = b"".join(others) + b"+END\r\n"
    for size in range(1, len(data)):
        dropping = PushFilter(lambda *_: Fate.DROP)
        cut = [data[at : at + size] for at in range(0, len(data), size)]
        assert b"".join(dropping.feed(piece) for piece in cut) == expected
    assert reply_end(b"*2\r\n:1\r\n", 0) is None
    with pytest.raises(ValueError, match="not RESP"):
        reply_end(b"?1\r\n", 0)


def test_a_failover_changes_masters_and_keeps_what_was_replicated() -> None:
    with SentinelCluster() as cluster:
        addresses = [("127.0.0.1", one.port) for one in cluster.sentinels]
        client = Sentinel(addresses, socket_timeout=2).master_for(cluster.master_name, decode_responses=True)
        client.set("before", "1")
        first = cluster.master
        second = cluster.failover(kill=False)
        assert second is not first
        assert cluster.master is second
        assert client.get("before") == "1"
        assert cluster.failover() is first
        assert not second.process.running
        client.set("after", "1")
        client.close()


def test_keys_without_a_ttl_are_told(own_valkey: ValkeyServer) -> None:
    with own_valkey.client() as client:
        client.set("mortal", 1, ex=100)
        client.sadd("_kombu.binding.llm", "x")
        assert_no_lasting_keys(client)
        client.lpush("llmq:left", 1)
        assert_no_lasting_keys(client, ["llmq:*"])
        with pytest.raises(AssertionError, match=r"llmq:left \(list\)"):
            assert_no_lasting_keys(client, timeout_s=0.1)


def test_threads_that_stay_are_told() -> None:
    before = set(threading.enumerate())
    stop = threading.Event()
    straggler = threading.Thread(target=stop.wait, name="straggler")
    straggler.start()
    with pytest.raises(AssertionError, match="straggler"):
        assert_no_new_threads(before, timeout_s=0.1)
    stop.set()
    assert_no_new_threads(before)
