"""What is done to containers under load: no call is lost, and none is billed twice without saying so."""

from collections.abc import Iterator

import pytest

from faults.callers import Callers
from faults.container_scene import ContainerScene
from support.containers.stack import Stack, run

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]

CALLS = 30


@pytest.fixture
def scene(stack: Stack) -> Iterator[ContainerScene]:
    """Two workers that have nothing to do."""
    stack.up(2, "valkey", "worker", "provider")
    sealing_keys_file = stack.secrets / "sealing_keys"
    # Patient callers: none gives up while Redis is restarted.
    with Callers(stack.url("agent"), sealing_keys_file=sealing_keys_file, redis_timeout="30s") as callers:
        yield ContainerScene(stack, callers)


def test_a_worker_is_stopped(scene: ContainerScene) -> None:
    scene.ask(CALLS, "stop")
    first, _ = scene.stack.containers("worker")
    run("docker", "stop", "--time", "70", first)
    scene.callers.ask(CALLS, "then")
    verdict = scene.prove()
    assert verdict.duplicates == 0
    assert verdict.answered == 2 * CALLS


def test_a_worker_is_killed(scene: ContainerScene) -> None:
    scene.ask(CALLS, "kill")
    first, _ = scene.stack.containers("worker")
    scene.kill(first)
    scene.callers.ask(CALLS, "then")
    verdict = scene.prove()
    assert verdict.duplicates > 0, "it had calls"
    assert verdict.answered == 2 * CALLS


def test_a_worker_is_paused_until_others_have_done_its_work(scene: ContainerScene) -> None:
    scene.ask(CALLS, "pause")
    first, _ = scene.stack.containers("worker")
    with scene.paused(first):
        scene.callers.wait(120)
    scene.callers.ask(CALLS, "then")
    verdict = scene.prove()
    assert verdict.duplicates > 0, "it had calls"
    assert verdict.answered == 2 * CALLS


def test_two_workers_become_four_and_one(scene: ContainerScene) -> None:
    scene.ask(CALLS, "two")
    scene.stack.up(4, "worker")
    scene.ask(CALLS, "four")
    scene.stack.up(1, "worker")
    scene.ask(CALLS, "one")
    verdict = scene.prove()
    assert verdict.duplicates == 0
    assert verdict.answered == 3 * CALLS


def test_valkey_is_restarted(scene: ContainerScene) -> None:
    scene.ask(CALLS, "restart")
    scene.restart_valkey()
    scene.callers.ask(CALLS, "then")
    verdict = scene.prove()
    assert verdict.duplicates == 0
    assert verdict.answered == 2 * CALLS
