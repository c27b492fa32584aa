"""What the pool's tests share: jobs of the throwaway app, its workers and what they report."""

import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from celery import Celery
from kombu.entity import Queue

from rustic_ai.llm_queue.tasks.names import TASK_NAME
from rustic_ai.llm_queue.worker.broker.transport import broker_url, register_transport
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

TESTS = Path(__file__).parents[2]


def make_worker(
    server: ValkeyServer, *args: str, log_path: Path, gossip: bool = False, **env: str
) -> WorkerProcess:
    """A worker of the throwaway app, not started yet; with `gossip` it follows what others report."""
    settings = {"POOL_APP_REDIS_URL": server.url, "PYTHONPATH": str(TESTS), **env}
    quiet = [] if gossip else ["--without-gossip"]
    arguments = [*quiet, "--without-mingle", "-E", *args]
    return WorkerProcess(settings, app="worker.pool.pool_app", args=arguments, log_path=log_path, cwd=TESTS)


class Jobs:
    """Sends jobs of the throwaway app and reads what became of them."""

    def __init__(self, server: ValkeyServer) -> None:
        register_transport()
        self.server = server
        self.app = Celery("jobs", set_as_current=False)
        self.app.conf.update(
            broker_url=broker_url(server.url),
            task_default_queue="llm",
            task_queues=[Queue("llm")],
            task_ignore_result=True,
        )

    def send(self, do: str = "return", count: int = 1) -> list[str]:
        """Enqueue `count` jobs that do `do`; returns their ids."""
        ids = [str(uuid.uuid4()) for _ in range(count)]
        with self.server.client() as client, client.pipeline() as pipe:
            for job_id in ids:
                pipe.hset(f"test:{job_id}", "do", do)
                pipe.expire(f"test:{job_id}", 600)
            pipe.execute()
        for job_id in ids:
            self.app.send_task(TASK_NAME, args=(job_id,), task_id=job_id)
        return ids

    def release(self) -> None:
        """Let the jobs that hold go on, now and later."""
        with self.server.client() as client:
            client.set("test:released", 1, ex=600)

    def facts(self, job_id: str) -> dict[str, str]:
        """What the job has noted."""
        with self.server.client() as client:
            noted: dict[str, str] = client.hgetall(f"test:{job_id}")
        return noted

    def having(self, ids: list[str], fact: str) -> list[str]:
        """Those of the jobs that have noted `fact`."""
        with self.server.client() as client, client.pipeline() as pipe:
            for job_id in ids:
                pipe.hexists(f"test:{job_id}", fact)
            return [job_id for job_id, known in zip(ids, pipe.execute(), strict=True) if known]

    def waiting(self) -> int:
        """Messages in the queue."""
        with self.server.client() as client:
            return int(client.llen("llm"))

    def stats(self, worker: WorkerProcess) -> dict[str, Any]:
        """The worker's own figures of its pool; empty when it does not answer within 2 s."""
        answer = self.app.control.inspect([worker.nodename], timeout=2).stats() or {}
        pool: dict[str, Any] = answer.get(worker.nodename, {}).get("pool", {})
        return pool


class Events:
    """Task events as a monitor such as Flower sees them, by task id."""

    def __init__(self, app: Celery) -> None:
        self._seen: list[tuple[str, str]] = []
        self._ready = threading.Event()
        self._connection = app.connection_for_read()
        self._receiver = app.events.Receiver(self._connection, handlers={"*": self._take})
        self._receiver.on_consume_ready = lambda *_, **__: self._ready.set()

    def of(self, job_id: str) -> list[str]:
        """The kinds of events of one job, in their order."""
        return [kind for one, kind in self._seen if one == job_id]

    def _take(self, event: dict[str, Any]) -> None:
        if "uuid" in event:
            self._seen.append((event["uuid"], event["type"]))

    def _listen(self) -> None:
        with self._connection:
            for _ in self._receiver.itercapture(wakeup=False):
                pass  # each event has been handled by then

    @classmethod
    @contextmanager
    def watched(cls, app: Celery) -> Iterator["Events"]:
        """Watch from now until the end of the block."""
        events = cls(app)
        thread = threading.Thread(target=events._listen, name="events", daemon=True)
        thread.start()
        assert events._ready.wait(10)
        try:
            yield events
        finally:
            events._receiver.should_stop = True
            thread.join(10)
