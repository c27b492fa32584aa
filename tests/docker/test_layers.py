"""The image's layers: what a change of code moves."""

import json
import os
import shlex
import shutil
from pathlib import Path

import pytest

from support.containers.stack import run
from support.documents.deployment import DOCKER

pytestmark = [pytest.mark.docker, pytest.mark.timeout(600)]

ROOT = DOCKER.parent
CHANGED = "rusticai-llm-queue:changed"
APP = Path("worker/src/rustic_ai/llm_queue/worker/app.py")


def _layers(image: str) -> list[str]:
    layers: list[str] = json.loads(run("docker", "inspect", "-f", "{{json .RootFS.Layers}}", image))
    return layers


def test_a_change_of_code_moves_the_layer_of_the_code_alone(image: str, tmp_path: Path) -> None:
    for name in ("pyproject.toml", "requirements.lock", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tmp_path)
    for folder in ("tasks", "worker", "docker"):
        shutil.copytree(ROOT / folder, tmp_path / folder, ignore=shutil.ignore_patterns("secrets", "*.pyc"))
    with (tmp_path / APP).open("a") as source:
        source.write("# A change\n")
    arguments = shlex.split(os.environ.get("DOCKER_BUILD_ARGS", ""))
    file = str(tmp_path / "docker" / "Dockerfile")
    run("docker", "build", *arguments, "-f", file, "-t", CHANGED, str(tmp_path), timeout_s=500)
    before, after = _layers(image), _layers(CHANGED)
    assert len(before) == len(after)
    assert sum(one != other for one, other in zip(before, after, strict=True)) == 1
    run("docker", "rmi", CHANGED)
