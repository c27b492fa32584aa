"""An agent's environment, made from the lock: it has neither Celery nor LiteLLM, and asks its questions."""

import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest

from rustic_ai.llm_queue.resolver.testing.reply import answered
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.owner import Owner
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import settle_now, waiting_job

ROOT = Path(__file__).parents[2]
ASK = """
import sys
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage
from rustic_ai.llm_queue.resolver import QueueLLMResolver

llm = QueueLLMResolver("openai/gpt-4o").resolve("acme", "support", "helper")
request = ChatCompletionRequest(messages=[UserMessage(content="Capital of France?")])
print(llm.completion(request).choices[0].message.content)
print(*{"celery", "kombu", "litellm"}.intersection(sys.modules))
"""


def uv(*args: str) -> subprocess.CompletedProcess[str]:
    command = shutil.which("uv") or str(ROOT / ".tools" / "bin" / "uv")
    return subprocess.run([command, *args], capture_output=True, text=True)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The programs of `pip install "rusticai-llm-queue[resolver]"`, with the lock's versions."""
    place = tmp_path_factory.mktemp("agent")
    build = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", str(place)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (wheel,) = place.glob("*.whl")
    python = str(place / "env" / "bin" / "python")
    assert uv("venv", "--quiet", "--python", sys.executable, str(place / "env")).returncode == 0
    install = [
        "pip",
        "install",
        "--quiet",
        "--python",
        python,
        "--constraint",
        str(ROOT / "requirements.lock"),
    ]
    # What `make setup` has fetched is in the cache; the registry is asked where the cache was cleared.
    if uv(*install, "--offline", f"{wheel}[resolver]").returncode:
        done = uv(*install, f"{wheel}[resolver]")
        assert done.returncode == 0, done.stderr
    return place / "env" / "bin"


def started(environment: Path, tmp_path: Path, url: str, *command: str) -> subprocess.Popen[str]:
    env = {"PATH": os.environ["PATH"], "HOME": str(tmp_path), "LLM_QUEUE_REDIS_URL": url}
    return subprocess.Popen(
        [str(environment / command[0]), *command[1:]],
        env=env, cwd=tmp_path, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip


def output_of(process: subprocess.Popen[str]) -> str:
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    return out


def test_it_installs_neither_celery_nor_litellm(environment: Path, tmp_path: Path) -> None:
    listed = uv("pip", "list", "--python", str(environment / "python"), "--format", "freeze").stdout
    names = {line.partition("==")[0] for line in listed.splitlines()}
    assert "rusticai-llm-queue" in names
    assert names.isdisjoint({"billiard", "celery", "flower", "kombu", "litellm", "vine"})


def test_it_asks_a_question_through_memory(environment: Path, tmp_path: Path) -> None:
    asking = started(environment, tmp_path, "memory://?otherwise=Paris", "python", "-c", ASK)
    assert output_of(asking).split() == ["Paris"]


@pytest.mark.leaves_keys("llm*")
def test_it_asks_a_question_through_redis(
    environment: Path, tmp_path: Path, valkey: ValkeyServer, redis_url: str
) -> None:
    asking = started(environment, tmp_path, redis_url, "python", "-c", ASK)
    job_id = wait_until(partial(waiting_job, valkey), 60, "the job to be queued")
    assert job_id is not None
    outcome = answered(CompletionCall(model="openai/gpt-4o", params={}), "Paris")
    settle_now(redis_url, job_id, outcome, Owner(org="acme", guild="support", agent="helper"))
    assert output_of(asking).split() == ["Paris"]


def test_its_command_line_asks_and_says_what_it_cannot(environment: Path, tmp_path: Path) -> None:
    ask = started(environment, tmp_path, "memory://?otherwise=Paris", "llm-queue", "ask", "?", "-m", "m")
    assert output_of(ask).strip() == "Paris"
    doctor = started(environment, tmp_path, "memory://", "llm-queue", "doctor")
    _, err = doctor.communicate(timeout=60)
    assert doctor.returncode == 1
    assert "pip install 'rusticai-llm-queue[worker]'" in err
    assert "Traceback" not in err
