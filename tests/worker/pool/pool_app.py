"""A throwaway Celery app: `celery -A worker.pool.pool_app worker`, with `tests/` on the path."""

import asyncio
import os
import sys
import threading
from typing import Any

import redis.asyncio
from celery import Celery, Task
from kombu.entity import Queue
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialBackoff

from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.worker.broker.transport import broker_url, register_transport
from rustic_ai.llm_queue.worker.celery_app.bulk_pop import take_in_batches
from rustic_ai.llm_queue.worker.pool.bridge import wait_for
from rustic_ai.llm_queue.worker.pool.pool_task import cancel_reason

REDIS_URL = os.environ["POOL_APP_REDIS_URL"]

register_transport()
app = Celery("pool_app", set_as_current=False)
app.conf.update(
    broker_url=broker_url(REDIS_URL),
    broker_transport_options={
        "socket_timeout": 5,
        "socket_connect_timeout": 3,
        "socket_keepalive": True,
        "health_check_interval": 10,
    },
    broker_connection_retry_on_startup=True,
    broker_connection_max_retries=None,
    broker_channel_error_retry=True,
    accept_content=["json"],
    task_default_queue="llm",
    task_queues=[Queue("llm")],
    task_acks_late=False,
    task_ignore_result=True,
    worker_pool="rustic_ai.llm_queue.worker.pool.pool:AsyncPool",
    worker_disable_prefetch=True,
    worker_prefetch_multiplier=1,
    worker_cancel_long_running_tasks_on_connection_loss=False,
    llm_queue_drain_timeout_s=float(os.environ.get("POOL_APP_DRAIN_S", "30")),
    llm_queue_cancel_timeout_s=5,
)

take_in_batches(app)

_gates: dict[str, asyncio.Task[None]] = {}
_clients: dict[str, "redis.asyncio.Redis"] = {}


def client() -> "redis.asyncio.Redis":
    """One client, made on the pool's loop at its first use."""
    if "one" not in _clients:
        # What the tests do to the connections is meant for the broker's.
        patient = Retry(ExponentialBackoff(cap=0.5, base=0.05), 60)
        pool = redis.asyncio.BlockingConnectionPool.from_url(
            REDIS_URL, decode_responses=True, max_connections=20, timeout=None, retry=patient
        )
        _clients["one"] = redis.asyncio.Redis(connection_pool=pool)
    return _clients["one"]


async def _note(job_id: str, **facts: Any) -> None:
    await client().hset(f"test:{job_id}", mapping={name: str(value) for name, value in facts.items()})


async def _work(job_id: str, plan: dict[str, str]) -> str:
    what, _, seconds = plan.get("do", "return").partition(":")
    await _note(job_id, started=1, threads=threading.active_count(), worker=os.getpid())
    if what == "sleep":
        await asyncio.sleep(float(seconds))
    elif what == "hold":
        await _released()
    elif what == "exit":
        sys.exit(3)
    elif what == "interrupt":
        raise KeyboardInterrupt
    elif what == "exit-in-child":
        await asyncio.gather(_leave(), asyncio.sleep(30))
    elif what == "cancel-itself":
        raise asyncio.CancelledError
    elif what == "fail":
        raise ValueError("as planned")
    await _note(job_id, finished=1)
    return "done"


async def _released() -> None:
    if "released" not in _gates:
        _gates["released"] = asyncio.create_task(_watch_gate())
    await asyncio.shield(_gates["released"])


async def _watch_gate() -> None:
    released = False
    while not released:
        released = bool(await client().exists("test:released"))
        await asyncio.sleep(0.1)


async def _leave() -> None:
    sys.exit(4)


async def _load(job_id: str) -> dict[str, str]:
    fields: dict[Any, Any] = await client().hgetall(f"test:{job_id}")
    return fields


@app.task(name=TASK_NAME, bind=True)
def run_job(self: Task, job_id: str) -> str:
    plan = wait_for(_load(job_id))
    if plan.get("do") == "exit-at-once":
        sys.exit(5)
    try:
        return wait_for(_work(job_id, plan))
    except asyncio.CancelledError:
        wait_for(_note(job_id, cancelled=cancel_reason() or "unknown", seen_id=self.request.id))
        raise
