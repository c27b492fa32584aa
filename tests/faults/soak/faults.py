"""What the soak does to workers and to Redis: each fault is a method, picked at random with a seed."""

import json
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from faults.checker import OF_DEAD_CALLERS
from faults.scene import Scene
from support.callers.malformed import malformed_messages
from support.callers.waiting_process import waiting_process
from support.providers.provider import Step
from support.servers.proxy import TcpProxy
from support.workers.nursery import NurseryWorker

WORKERS = 3
_LEASE_S = 6.0
#: Enough losses for one job that no luck of the dice ends it.
_SETTINGS = {
    "LEASE": "6s",
    "BEAT": "1s",
    "MOST_LOSSES": "50",
    "DRAIN": "1s",
    "HARD_STOP": "4s",
    "CONCURRENCY": "40",
}


@dataclass
class WorkerFaults:
    """Kills, freezes and stops workers, and starts new ones in their place."""

    scene: Scene
    #: Some of the workers reach Redis through it.
    proxy: TcpProxy
    random: random.Random
    #: Their `ready_window`, with so few places that more wait than it takes; None is as the scene has it.
    ready_window: int | None = None
    done: Counter[str] = field(default_factory=Counter)
    #: Seconds from SIGTERM to the exit.
    drains_s: list[float] = field(default_factory=list)
    workers: list[NurseryWorker] = field(default_factory=list)

    def start_workers(self) -> None:
        """As many as there are to be; every third behind the proxy."""
        settings = dict(_SETTINGS)
        if self.ready_window is not None:
            settings |= {"FAIR_SHARE": json.dumps({"ready_window": self.ready_window}), "CONCURRENCY": "8"}
        while len(self.workers) < WORKERS:
            far = not any(self.proxy.redis_url in worker.logs() for worker in self.workers)
            url = self.proxy.redis_url if far else None
            self.workers.append(self.scene.start_worker(settings, url=url, wait=False))
        for worker in self.workers:
            worker.wait_ready()

    def strike(self) -> None:
        """One fault; returns when it is over."""
        fault = self.random.choice(self._all())
        fault()
        self.done[fault.__name__.strip("_")] += 1
        self.start_workers()

    def _all(self) -> list[Callable[[], None]]:
        return [self.kill, self.kill, self.kill, self.freeze, self.drain, self.kill_in_drain, self.quit]

    def _pick(self) -> NurseryWorker:
        return self.workers.pop(self.random.randrange(len(self.workers)))

    def kill(self) -> None:
        self.scene.kill(self._pick())

    def freeze(self) -> None:
        worker = self._pick()
        with self.scene.frozen(worker):
            time.sleep(self.random.uniform(0.5, 1.5) * _LEASE_S)
        self.workers.append(worker)

    def drain(self) -> None:
        self._stop(self._pick(), signal.SIGTERM)

    def quit(self) -> None:
        self._stop(self._pick(), signal.SIGQUIT)

    def kill_in_drain(self) -> None:
        worker, from_s = self._pick(), time.monotonic()
        worker.send_signal(signal.SIGTERM)
        time.sleep(self.random.uniform(0.0, 1.5))
        self.scene.note("handed back", from_s, time.monotonic())
        self.scene.kill(worker)

    def _stop(self, worker: NurseryWorker, number: int) -> None:
        from_s = time.monotonic()
        worker.send_signal(number)
        worker.wait(30)
        until_s = time.monotonic()
        self.drains_s.append(until_s - from_s)
        if until_s - from_s > 6:
            print(f"slow to end: {until_s - from_s:.1f} s\n{worker.log_tail(12)}", flush=True)
        # Its hard deadline is a death to what it could not hand back.
        self.scene.note("handed back", from_s, until_s)
        self.scene.note("killed", until_s, until_s)


@dataclass
class RedisFaults:
    """Cuts, kills and freezes Redis, spoils its network and its queue."""

    scene: Scene
    proxy: TcpProxy
    random: random.Random
    done: Counter[str] = field(default_factory=Counter)

    def strike(self) -> None:
        """One fault; returns when it is over."""
        fault = self.random.choice(self._all())
        fault()
        self.done[fault.__name__.strip("_")] += 1

    def _all(self) -> list[Callable[[], None]]:
        return [
            self.cut_connections,
            self.restart_redis,
            self.freeze_redis,
            self.fill_redis,
            self.half_open_for_good,
            self.cut_off_one_worker,
            self.slow_network,
            self.malformed_messages,
            self.refuse_writes,
            self.keep_busy,
            self.forget_everything,
            self.kill_caller,
        ]

    def cut_connections(self) -> None:
        self.scene.server.cut_connections()

    def restart_redis(self) -> None:
        with self._outage():
            self.scene.server.restart(after_s=self.random.uniform(0.0, 2.0))

    def freeze_redis(self) -> None:
        with self._outage():
            self.scene.server.freeze()
            time.sleep(self.random.uniform(0.2, 1.2) * _LEASE_S)
            self.scene.server.thaw()

    def fill_redis(self) -> None:
        with self.scene.server.client() as client:
            client.config_set("maxmemory", 1_000_000)
            time.sleep(self.random.uniform(0.2, 1.0))
            client.config_set("maxmemory", 0)

    def half_open_for_good(self) -> None:
        with self._outage(longer_s=6.0):
            self.proxy.strand()

    def cut_off_one_worker(self) -> None:
        from_s = time.monotonic()
        self.proxy.blackhole()
        time.sleep(self.random.uniform(0.5, 1.5) * _LEASE_S)
        self.proxy.heal()
        # A socket's timeout passes before it tries another one.
        self.scene.note("frozen", from_s, time.monotonic() + 2.0)

    def slow_network(self) -> None:
        self.proxy.latency_s = self.random.uniform(0.01, 0.05)
        time.sleep(2.0)
        self.proxy.latency_s = 0.0

    def malformed_messages(self) -> None:
        messages = self.random.sample(list(malformed_messages().values()), 30)
        with self.scene.server.client() as client:
            for raw in messages:
                client.rpush("llm", raw)

    def refuse_writes(self) -> None:
        with self._outage(longer_s=2.0), self.scene.server.client() as client:
            client.config_set("min-replicas-to-write", 1)
            time.sleep(self.random.uniform(0.5, 2.5))
            client.config_set("min-replicas-to-write", 0)

    def keep_busy(self) -> None:
        with self._outage(longer_s=2.0), self.scene.server.client() as client:
            client.config_set("busy-reply-threshold", 50)
            spinning = self.scene.server.client(socket_timeout=None).connection_pool.get_connection()
            spinning.send_command("EVAL", "while true do end", 0)
            time.sleep(self.random.uniform(0.5, 2.5))
            client.execute_command("SCRIPT KILL")
            spinning.disconnect()

    def forget_everything(self) -> None:
        with self.scene.server.client() as client:
            client.flushall()
        self.scene.flushes.append(time.monotonic())

    def kill_caller(self) -> None:
        """Of another process, whose jobs end without it."""
        tag = f"{OF_DEAD_CALLERS}-{self.done.total()}"
        self.scene.provider.plan(tag, Step(delay_s=2.0, words=20, chunk_delay_s=0.1, times=None))
        with waiting_process(self.scene.server.url, f"#{tag}") as (process, _):
            time.sleep(self.random.uniform(0.0, 0.5))
            process.kill()

    def _outage(self, longer_s: float = 1.0) -> "_Outage":
        return _Outage(self.scene, longer_s)


class _Outage:
    """Puts on record when Redis took no records, with the time it takes to find it again."""

    def __init__(self, scene: Scene, longer_s: float) -> None:
        self._scene, self._longer_s = scene, longer_s
        self._from_s = 0.0

    def __enter__(self) -> None:
        self._from_s = time.monotonic()

    def __exit__(self, *_: object) -> None:
        self._scene.outages.append((self._from_s, time.monotonic() + self._longer_s))
