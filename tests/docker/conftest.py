"""What the tests on a Docker engine share: `make docker-test`, or `pytest -m docker` where an engine is.

The image is built first, unless LLM_QUEUE_IMAGE names one; DOCKER_BUILD_ARGS are more arguments for that.
"""

import os
import shlex
from collections.abc import Iterator

import pytest

from support.containers.stack import Stack, run
from support.documents.deployment import DOCKER

#: Sooner over than the usual one, and long enough for two cores with all of these containers.
LEASE = {"LLM_QUEUE_LEASE": "8s", "LLM_QUEUE_BEAT": "1s", "LLM_QUEUE_REAP_EVERY": "500ms"}


@pytest.fixture(scope="session")
def image() -> str:
    """The project's image."""
    if name := os.environ.get("LLM_QUEUE_IMAGE"):
        return name
    arguments = shlex.split(os.environ.get("DOCKER_BUILD_ARGS", ""))
    tag = "rusticai-llm-queue:test"
    command = ["docker", "build", *arguments, "-f", str(DOCKER / "Dockerfile"), "-t", tag, str(DOCKER.parent)]
    run(*command, timeout_s=800, env={"DOCKER_BUILDKIT": "1"})
    return tag


@pytest.fixture(scope="session")
def stack(tmp_path_factory: pytest.TempPathFactory, image: str) -> Iterator[Stack]:
    """The compose file's project, with leases that run out soon; tests start the workers that they need."""
    project = Stack(tmp_path_factory.mktemp("stack"), image, worker_env=LEASE)
    try:
        yield project
    finally:
        project.down()
