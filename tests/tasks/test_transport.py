"""The wake-up transport on a real server, with kombu's own consumer."""

import json
import logging
import socket
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import redis
from celery import Celery
from kombu.connection import Connection
from kombu.entity import Queue
from kombu.exceptions import OperationalError
from kombu.message import Message
from kombu.messaging import Consumer

from rustic_ai.llm_queue.tasks.connection.redis_client import connect
from rustic_ai.llm_queue.tasks.job import Job, Priority
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.keys import QUARANTINE as QUARANTINE_KEY
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.worker.broker.messages import parse_wakeup
from rustic_ai.llm_queue.worker.broker.quarantine import QuarantinedMessage
from rustic_ai.llm_queue.worker.broker.transport import broker_url, register_transport
from support.callers.malformed import CANARY, malformed_messages
from support.processes.wait import wait_until
from support.servers.certificate import make_certificate
from support.servers.proxy import TcpProxy
from support.servers.sentinel import SentinelCluster
from support.servers.valkey import ValkeyServer

QUEUE = "llm"


class Listener:
    """A consumer of the queue that remembers what it got and acknowledges nothing."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection
        self.breaks = False
        self.ids: list[str] = []
        self.messages: list[Message] = []
        self._consumer = Consumer(connection, [Queue(QUEUE)], on_message=self._take, accept=["json"])
        self._consumer.consume()

    def _take(self, message: Message) -> None:
        self.messages.append(message)
        self.ids.append(message.headers["id"])
        if self.breaks:
            raise LookupError("a consumer that breaks")

    def turn(self) -> None:
        """Handle what has arrived, until nothing comes for a tenth of a second."""
        with suppress(TimeoutError):
            while True:
                self.connection.drain_events(timeout=0.1)

    def until(self, done: Callable[[], object], what: str) -> None:
        def look() -> object:
            self.turn()
            return done()

        wait_until(look, 10, what)

    def make_room(self, count: int) -> None:
        """Let as many messages be taken at once, as a worker does."""
        channel: Any = self.connection.default_channel
        channel.qos.room = lambda: count - len(self.ids)
        channel.qos.can_consume = lambda: count > len(self.ids)

    def cancel(self) -> None:
        self._consumer.cancel()


@contextmanager
def listening(url: str, **options: Any) -> Iterator[Listener]:
    register_transport()
    with Connection(broker_url(url), transport_options=options) as connection:
        yield Listener(connection)


def publisher(url: str, **options: Any) -> Celery:
    register_transport()
    app = Celery("publisher", set_as_current=False)
    app.conf.update(
        broker_url=broker_url(url),
        broker_transport_options=options,
        task_default_queue=QUEUE,
        task_queues=[Queue(QUEUE)],
        task_ignore_result=True,
    )
    return app


def send(app: Celery, **options: Any) -> str:
    job_id = str(uuid.uuid4())
    app.send_task(TASK_NAME, args=(job_id,), task_id=job_id, **options)
    return job_id


@pytest.mark.leaves_keys("llm*", reason="jobs that nobody ends")
@pytest.mark.parametrize("priority", [0, 3, 6, 9])
async def test_a_job_is_announced_just_as_celery_would_announce_it(
    valkey: ValkeyServer, priority: Priority
) -> None:
    owner = Owner(org="acme", guild="support", agent="helper")
    job = Job(
        id=str(uuid.uuid4()), owner=owner, model="gpt-4", queue=QUEUE, priority=priority,
        timeout_ms=60_000, request="plain:{}", fingerprints="plain:1",
    )  # fmt: skip
    described = f"model=gpt-4 org=acme guild=support agent=helper ~tokens={job.estimated_tokens}"
    with publisher(valkey.url) as app:
        app.send_task(
            TASK_NAME, args=(job.id,), task_id=job.id, queue=QUEUE, priority=priority, ignore_result=True,
            argsrepr=described, kwargsrepr="", origin=None,
        )  # fmt: skip
    redis = connect(valkey.url, outage_s=1)
    ledger = Ledger(redis, result_ttl=timedelta(minutes=5))
    await ledger.submit(job)
    await ledger.announce(job)
    await redis.aclose()

    with valkey.client() as client:
        messages = client.lrange(keys.message_list(QUEUE, priority), 0, -1)
    submitted, celerys, again = (parse_wakeup(str(one).encode(), QUEUE) for one in messages)
    celerys["headers"] |= {"origin": None}
    assert submitted == again == celerys


def push(server: ValkeyServer, raw: bytes | dict[str, Any]) -> None:
    with server.client() as client:
        client.lpush(QUEUE, raw if isinstance(raw, bytes) else json.dumps(raw))


def quarantined(server: ValkeyServer) -> list[QuarantinedMessage]:
    with server.client() as client:
        return [QuarantinedMessage.model_validate_json(raw) for raw in client.lrange(QUARANTINE_KEY, 0, -1)]


@pytest.fixture
def app(redis_url: str) -> Iterator[Celery]:
    with publisher(redis_url) as app:
        yield app


def test_what_celery_sends_arrives_and_nothing_waits_for_an_acknowledgement(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    with listening(redis_url) as listener:
        sent = [send(app, argsrepr="model=test") for _ in range(20)]
        listener.until(lambda: len(listener.ids) == 20, "20 messages")

        assert listener.ids == sent
        assert listener.messages[0].payload[0] == [sent[0]]
        assert listener.messages[0].headers["argsrepr"] == "model=test"
        with valkey.client() as client:
            assert not [key for key in client.keys("*") if "unacked" in key]
        # The connection's end restores nothing either.
    with listening(redis_url) as again:
        again.turn()
        assert again.ids == []


def test_acknowledging_and_rejecting_do_nothing(valkey: ValkeyServer, redis_url: str, app: Celery) -> None:
    with listening(redis_url) as listener:
        send(app)
        send(app)
        listener.until(lambda: len(listener.ids) == 2, "two messages")
        listener.messages[0].ack()
        listener.messages[1].reject(requeue=True)
        listener.turn()

        assert len(listener.ids) == 2
        with valkey.client() as client:
            assert client.llen(QUEUE) == 0


def test_a_higher_priority_list_is_read_as_kombu_names_it(redis_url: str, app: Celery) -> None:
    low, high = send(app, priority=0), send(app, priority=9)

    with listening(redis_url) as listener:
        listener.until(lambda: len(listener.ids) == 2, "both messages")

        assert {message.headers["id"]: message.properties["priority"] for message in listener.messages} == {
            low: 0,
            high: 9,
        }


def test_malformed_messages_are_put_aside_and_the_next_one_arrives(
    valkey: ValkeyServer, redis_url: str, app: Celery, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    malformed = malformed_messages()
    for raw in malformed.values():
        push(valkey, raw)
    good = send(app)

    with listening(redis_url) as listener:
        listener.until(lambda: listener.ids == [good], "the good message")

    kept = quarantined(valkey)
    assert len(kept) == len(malformed)
    assert [one.size for one in reversed(kept)] == [len(raw) for raw in malformed.values()]
    assert all(one.reason and one.queue == QUEUE for one in kept)
    assert CANARY not in caplog.text
    assert all(CANARY not in one.reason for one in kept)
    # A body is kept for whoever looks into it, but not without a bound.
    assert max(len(one.body_base64) for one in kept) < 12_000


def test_the_quarantine_is_capped(valkey: ValkeyServer, redis_url: str, app: Celery) -> None:
    for number in range(30):
        push(valkey, f"junk {number}".encode())
    good = send(app)

    with listening(redis_url, quarantine_cap=10) as listener:
        listener.until(lambda: listener.ids == [good], "the good message")

    kept = quarantined(valkey)
    assert len(kept) == 10
    assert kept[0].size == len("junk 29")


@pytest.mark.parametrize("priority_suffix", ["", "\x06\x163"])
def test_a_key_of_another_type_in_the_queues_place_is_moved_away(
    valkey: ValkeyServer, redis_url: str, app: Celery, priority_suffix: str
) -> None:
    with valkey.client() as client:
        client.set(QUEUE + priority_suffix, "not a list")

    with listening(redis_url) as listener:
        listener.until(lambda: quarantined(valkey), "the key to be moved")
        good = send(app)
        listener.until(lambda: listener.ids == [good], "the good message")

    assert "not a list" in quarantined(valkey)[0].reason


def test_a_queue_that_is_a_list_again_is_not_moved(valkey: ValkeyServer, redis_url: str, app: Celery) -> None:
    with listening(redis_url) as listener:
        good = send(app)
        # As a worker would that heard of the wrong type a moment too late.
        channel: Any = listener.connection.default_channel
        channel.quarantine.add_key(QUEUE)
        listener.until(lambda: listener.ids == [good], "the good message")

    assert quarantined(valkey) == []


def test_a_message_popped_after_the_consumer_was_cancelled_goes_back_first_in_line(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    with listening(redis_url) as listener:
        listener.turn()  # leaves a pop waiting at the server
        first, second = send(app), send(app)
        listener.cancel()

        assert listener.ids == []
        with valkey.client() as client:
            waiting = [json.loads(raw)["headers"]["id"] for raw in client.lrange(QUEUE, 0, -1)]
        assert waiting == [second, first]
        client.delete(QUEUE)


def test_many_are_taken_at_once_but_no_more_than_there_is_room_for(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    sent = [send(app) for _ in range(60)]
    with listening(redis_url) as listener:
        listener.make_room(40)
        with valkey.client() as client:
            client.config_resetstat()
            listener.until(lambda: len(listener.ids) == 40, "as many as there is room for")
            listener.turn()

            assert listener.ids == sent[:40]
            assert client.llen(QUEUE) == 20
            assert client.info("commandstats")["cmdstat_blmpop"]["calls"] < 10
            client.delete(QUEUE)


def test_malformed_messages_among_many_are_put_aside(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    sent = []
    for raw in malformed_messages().values():
        push(valkey, raw)
        sent.append(send(app))

    with listening(redis_url) as listener:
        listener.make_room(1000)
        listener.until(lambda: listener.ids == sent, "the good messages")

    assert len(quarantined(valkey)) == len(sent)


def test_when_the_consumer_breaks_the_rest_of_what_was_taken_goes_back(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    sent = [send(app) for _ in range(5)]
    with listening(redis_url) as listener:
        listener.make_room(5)
        listener.breaks = True
        with pytest.raises(LookupError):
            listener.turn()

        assert listener.ids == sent[:1]
    with listening(redis_url) as other:
        other.until(lambda: other.ids == sent[1:], "the rest, in its order")


def test_publishing_to_a_key_of_another_type_is_refused_at_once(
    valkey: ValkeyServer, redis_url: str, app: Celery
) -> None:
    with valkey.client() as client:
        client.set(QUEUE, "not a list", ex=60)

    with pytest.raises(OperationalError, match="WRONGTYPE"):
        send(app)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("redis://localhost:1/2", "llmq-redis://localhost:1/2"),
        ("redis://user:p%40ss@localhost:1/0", "llmq-redis://user:p%40ss@localhost:1/0"),
        ("rediss://localhost:1/0", "llmq-rediss://localhost:1/0"),
        (
            "sentinel://u:p%40@a:1;b:2/3?master=m",
            "llmq-sentinel://u:p%40@a:1/3;llmq-sentinel://u:p%40@b:2/3",
        ),
        ("sentinel://a:1/0?master=m&tls=1", "llmq-sentinel://a:1/0"),
    ],
)
def test_the_broker_url_of_a_redis_url(given: str, expected: str) -> None:
    assert broker_url(given) == expected


@pytest.mark.parametrize("given", ["amqp://localhost", "localhost:6379", "sentinel://a:1/0"])
def test_a_url_of_another_kind_has_no_broker_url(given: str) -> None:
    with pytest.raises(ValueError, match=r"scheme|master"):
        broker_url(given)


def test_tls_is_spoken_and_the_servers_certificate_checked(valkey: ValkeyServer, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path)
    with TcpProxy(valkey.port, certificate=certificate) as proxy:
        trusting = f"{proxy.redis_url}?ssl_ca_certs={certificate.ca_path}"
        with publisher(trusting) as app, listening(trusting) as listener:
            sent = send(app)
            listener.until(lambda: listener.ids == [sent], "the message over TLS")

        with (
            Connection(broker_url(proxy.redis_url)) as distrusting,
            pytest.raises(redis.ConnectionError, match="certificate"),
        ):
            distrusting.connect()


@pytest.mark.leaves_threads(reason="kombu's Sentinel client closes with its connection")
def test_sentinel_names_the_master_before_and_after_a_failover() -> None:
    with SentinelCluster() as cluster:
        options = {"master_name": cluster.master_name, "socket_timeout": 2}
        with publisher(cluster.url, **options) as app:
            with listening(cluster.url, **options) as listener:
                before = send(app)
                listener.until(lambda: listener.ids == [before], "the message before the failover")

            # The first sentinel of the URL is gone as well: the others must be known.
            cluster.sentinels[0].kill()
            cluster.failover()

            def reconnect() -> str | None:
                try:
                    return send(app)
                except (OSError, app.connection_for_write().recoverable_connection_errors):
                    return None

            after = wait_until(reconnect, 30, "publishing to the new master")
            with listening(cluster.url, **options) as listener:
                listener.until(lambda: after in listener.ids, "the message after the failover")


def test_a_registered_scheme_is_still_celerys_redis_to_celery() -> None:
    register_transport()
    with Connection("llmq-redis://localhost") as connection:
        # Celery turns on its back-pressure by this name.
        assert connection.transport.driver_type == "redis"
        assert socket.gethostbyname(connection.hostname)
