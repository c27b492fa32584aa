from __future__ import annotations

from typing import Any

from celery import Celery
from kombu.entity import Exchange, Queue

from rustic_ai.llm_queue.tasks.connection.redis_client import CONNECT_TIMEOUT_S, SOCKET_TIMEOUT_S
from rustic_ai.llm_queue.tasks.connection.redis_url import ClusterUrl, SentinelUrl, is_cluster_url
from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.tasks.settings import QueueSettings, require_server

from .transport import broker_url, register_transport


def make_celery_app(settings: QueueSettings, **conf: Any) -> Celery:
    """A Celery app on the wake-up transport, without a result backend.

    The worker adds what only a worker needs. Raises `SettingsError` where no server is named.
    """
    require_server(settings.redis_url)
    register_transport()
    app = Celery("rustic_ai.llm_queue", set_as_current=False)
    app.conf.update(
        broker_url=broker_url(settings.redis_url),
        broker_transport_options=_transport_options(settings.redis_url, settings.key_tag),
        broker_use_ssl=_sentinel_tls(settings.redis_url),
        broker_connection_retry_on_startup=True,
        broker_connection_max_retries=None,
        broker_channel_error_retry=True,
        accept_content=["json"],
        result_accept_content=["json"],
        task_serializer="json",
        result_serializer="json",
        task_default_queue=settings.queue,
        # The nameless exchange needs no binding table in Redis, which a flush would empty for good.
        task_queues=[Queue(settings.queue, exchange=Exchange(""), routing_key=settings.queue)],
        task_routes={TASK_NAME: {"queue": settings.queue}},
        # A message only wakes a worker up; the ledger holds the job and its tries.
        task_acks_late=False,
        task_track_started=False,
        task_ignore_result=True,
        worker_cancel_long_running_tasks_on_connection_loss=False,
        enable_utc=True,
    )
    app.conf.update(**conf)
    return app


def _transport_options(redis_url: str, key_tag: str) -> dict[str, Any]:
    options: dict[str, Any] = {
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        # Otherwise one half-open connection would hold up the worker, or a publisher, for good.
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_keepalive": True,
        "health_check_interval": 10,
    }
    if key_tag:
        options["key_tag"] = key_tag
    if is_cluster_url(redis_url):
        options["nodes"] = [list(host) for host in ClusterUrl.parse(redis_url).hosts]
    if redis_url.startswith("sentinel://"):
        target = SentinelUrl.parse(redis_url)
        timeouts = {"socket_connect_timeout": CONNECT_TIMEOUT_S, "socket_timeout": SOCKET_TIMEOUT_S}
        options["master_name"] = target.master
        options["sentinel_kwargs"] = timeouts | target.to_sentinels
    return options


def _sentinel_tls(redis_url: str) -> dict[str, str] | None:
    # A `rediss://` URL needs no options beside it.
    return SentinelUrl.parse(redis_url).tls if redis_url.startswith("sentinel://") else None
