"""A Redis in cluster mode: the main job through real workers, a slot that moves, a primary that dies."""

from collections.abc import Callable, Iterator
from itertools import count
from typing import Any, cast

import pytest

from faults.callers import Callers
from faults.checker import assert_promises
from faults.scene import Scene
from rustic_ai.llm_queue.resolver.exceptions import JobCancelled
from support.callers.llm import ask
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.cluster import TAG, TaggedKeys, ValkeyCluster
from support.servers.valkey import ValkeyServer
from support.workers.nursery import Nursery

MakeScene = Callable[[ValkeyCluster], Scene]


@pytest.fixture
def scene_on(
    provider: ProviderStub, nursery: Nursery, monkeypatch: pytest.MonkeyPatch
) -> Iterator[MakeScene]:
    """A function from a cluster to a scene on it, with two workers."""
    made: list[Scene] = []

    def make(cluster: ValkeyCluster) -> Scene:
        monkeypatch.setenv("LLM_QUEUE_KEY_TAG", TAG)
        callers = Callers(cluster.url, redis_timeout="20s")
        callers.__enter__()
        scene = Scene(cast(ValkeyServer, TaggedKeys(cluster)), provider, nursery, callers, url=cluster.url)
        made.append(scene)
        scene.start_workers(2)
        return scene

    yield make
    for scene in made:
        scene.callers.__exit__()
        for worker in scene.workers:
            worker.kill()


@pytest.fixture(scope="module")
def cluster() -> Iterator[ValkeyCluster]:
    """Three primaries; where the slot is differs from test to test."""
    with ValkeyCluster() as cluster:
        yield cluster


def untagged(cluster: ValkeyCluster) -> list[str]:
    found: list[str] = []
    for server in cluster.servers:
        with server.client() as client:
            found += [key for key in client.scan_iter() if not key.startswith(f"{{{TAG}}}")]
    return found


def test_the_main_job(cluster: ValkeyCluster, scene_on: MakeScene) -> None:
    scene = scene_on(cluster)
    llm = scene.callers.llm(timeout=30)
    scene.provider.plan("retried", Step(status=500), Step(text="in the end"))
    scene.provider.plan("streamed", Step(text="one two three"))
    scene.provider.plan("held", Step(hold=True))

    answer = llm.completion(ask("#retried"))
    assert answer.choices[0].message.content == "in the end"
    with llm.stream(ask("#streamed")) as stream:
        text = "".join(chunk.text for chunk in stream)
    assert text == "one two three"
    first = llm.submit(ask("#once"), idempotency_key="k")
    assert llm.submit(ask("#once"), idempotency_key="k").id == first.id
    first.result()
    held = llm.submit(ask("#held"))
    scene.until(lambda: scene.provider.open_calls == 1, "the call that is held")
    assert held.cancel()
    with pytest.raises(JobCancelled):
        held.result()
    scene.until(lambda: scene.provider.open_calls == 0, "the provider's connection to be closed")
    assert untagged(cluster) == []
    assert scene.history().leftovers == []


def test_nothing_is_lost_or_billed_twice_while_the_slot_moves(
    cluster: ValkeyCluster, scene_on: MakeScene
) -> None:
    scene = scene_on(cluster)
    scene.provider.plan("*", Step(hold=True, times=20))
    scene.callers.ask(10, "before")
    scene.callers.ask(10, "streamed", stream=True)
    scene.wait_running(20)
    old, rounds = cluster.owner, count()

    def meanwhile() -> None:
        number = next(rounds)
        scene.callers.ask(2, f"meanwhile-{number}")
        if number == 3:
            # Some keys are here and some there: workers and callers come, and are sent away.
            scene.until(lambda: _refused(old) >= 20, "commands to be refused while the slot moves")

    cluster.move_slot(cluster.others[0], keys_at_once=3, meanwhile=meanwhile)
    assert cluster.owner is not old
    scene.provider.release()
    scene.callers.ask(10, "after")
    verdict = assert_promises(scene.history())
    calls = len(scene.callers.calls)
    assert (verdict.answered, verdict.requests) == (calls, calls)
    assert untagged(cluster) == []


@pytest.mark.parametrize("kill", [True, False], ids=["dies", "freezes"])
def test_nothing_is_lost_or_billed_twice_when_the_primary(kill: bool, scene_on: MakeScene) -> None:
    with ValkeyCluster(replica=True) as cluster:
        scene = scene_on(cluster)
        scene.provider.plan("*", Step(hold=True, times=20))
        scene.callers.ask(20, "before")
        scene.wait_running(20)
        wait_until(lambda: _in_step(cluster), 10, "the replica to be in step")
        cluster.fail_over(kill=kill)
        scene.provider.release()
        scene.callers.ask(10, "after")
        verdict = assert_promises(scene.history())
        assert (verdict.answered, verdict.requests) == (30, 30)


def _refused(server: ValkeyServer) -> int:
    with server.client() as client:
        errors: dict[str, Any] = client.info("errorstats")
    return sum(int(errors.get(f"errorstat_{code}", {}).get("count", 0)) for code in ("ASK", "TRYAGAIN"))


def _in_step(cluster: ValkeyCluster) -> bool:
    with cluster.client() as client:
        info: dict[str, Any] = client.info("replication")
    return bool(info["slave0"]["offset"] == info["master_repl_offset"])
