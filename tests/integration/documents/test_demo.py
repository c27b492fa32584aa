"""`make demo` as a newcomer runs it: the real small model, a real guild, and nothing left behind."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest

from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from support.documents.readme import DEMO as PAGE
from support.documents.readme import blocks
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub
from support.servers.ports import free_port

pytestmark = pytest.mark.timeout(300)
DEMO = Path(__file__).parents[3] / "examples" / "demo.py"
#: A worker alone takes 10 s of processor time to start.
LONGEST_S = 240


def environment(extra: Mapping[str, str] | None = None) -> dict[str, str]:
    """This machine's, without what would change what the demo does."""
    keys = {name for names in KEY_VARIABLES.values() for name in names}
    own = {name: value for name, value in os.environ.items() if name not in keys}
    return {**own, "COLUMNS": "200", "LLM_QUEUE_REDIS_URL": "redis://127.0.0.1:1/0", **(extra or {})}


def run(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), *arguments],
        env=environment(env),
        capture_output=True,
        text=True,
        timeout=LONGEST_S,
        check=False,
    )


@contextmanager
def running() -> Iterator[subprocess.Popen[str]]:
    demo = subprocess.Popen(
        [sys.executable, "-u", str(DEMO)],
        env=environment(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        with demo:
            yield demo
    finally:
        demo.kill()


def read_to(demo: subprocess.Popen[str], text: str) -> str:
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        if text in line:
            return said
    raise AssertionError(f"no {text!r} in\n{said}")


def lives(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def assert_ended(said: str, count: int) -> None:
    pids = {int(pid) for pid in re.findall(r"pid (\d+)", said)}
    assert len(pids) == count
    wait_until(lambda: not any(map(lives, pids)), 10, f"the end of {pids}")


def headings(said: str) -> set[str]:
    """The lines that are the same in every run: no answer, no figure, and no order among equals."""
    lines = [line for line in said.splitlines() if line and not line.startswith("    ")]
    return {re.sub(r"\d+(\.\d+)?", "0", line) for line in lines}


def test_it_shows_answers_a_stream_and_a_fallback_and_leaves_nothing_running() -> None:
    demo = run()
    said = demo.stdout
    assert demo.returncode == 0, said + demo.stderr
    assert demo.stderr == ""
    assert "\x1b" not in said
    account = r"\d+\+\d+ tokens · no price · queued \d+\.\d\d s · ran \d+\.\d\d s · worker@demo"
    assert len(re.findall(rf"smollm2 · {account}", said)) == 5
    assert len(re.findall(rf"spare · {account}", said)) == 1
    for asked, answered in [
        ("Geographer: What is the capital of Japan?", "Tokyo"),
        ("Naturalist: Why do birds sing?", "communicate"),
        ("Writer: How is bread made?", "flour"),
    ]:
        assert re.search(rf"{re.escape(asked)}\n    .*{answered}", said), said
    assert re.search(r"joined after \d{3} of \d{3} characters: the same text", said)
    fallback = said[said.index("The server of smollm2 dies") :]
    assert re.search(r"1\. smollm2 failed \(connection\)[^$]*3\. spare answered after", fallback)
    assert re.search(r"6 answers, \d+ tokens, no price, in", said)
    assert_ended(said, 4)
    (shown,) = blocks("", PAGE)
    assert headings(shown) == headings(said), "docs/demo.md shows another demo"


@pytest.mark.parametrize("moment", ["Valkey", "guild", "How is bread made?"])
def test_ctrl_c_leaves_nothing_running(moment: str) -> None:
    with running() as demo:
        children: list[psutil.Process] = []
        said = read_to(demo, moment)
        children = psutil.Process(demo.pid).children(recursive=True)
        # As a terminal does it: to the whole group.
        os.killpg(demo.pid, signal.SIGINT)
        rest, _ = demo.communicate(timeout=60)
    assert demo.returncode == 130, said + rest
    assert rest.endswith("interrupted; nothing is left running\n")
    assert "Traceback" not in rest
    assert children
    wait_until(lambda: not any(child.is_running() for child in children), 10, f"the end of {children}")


def test_a_providers_model_answers_instead_in_colour_and_with_its_price(provider: ProviderStub) -> None:
    colour = {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    demo = run("--model", "openai/gpt-4o-mini", env={**provider.env(), **colour})
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "\x1b[" in demo.stdout
    plain = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", demo.stdout)
    assert len(re.findall(r"openai/gpt-4o-mini · \d+\+\d+ tokens · \$0\.000\d\d\d · queued", plain)) == 5
    assert re.search(r"5 answers, \d+ tokens, \$0\.000", plain)
    assert {one.body["model"] for one in provider.requests()} == {"gpt-4o-mini"}
    assert_ended(plain, 2)


def test_an_agent_without_an_answer_fails_the_demo_and_leaves_its_logs(tmp_path: Path) -> None:
    nobody = f"http://127.0.0.1:{free_port()}/v1"
    env = {"OPENAI_API_KEY": "sk-none", "OPENAI_BASE_URL": nobody, "OPENAI_API_BASE": nobody}
    env["TMPDIR"] = str(tmp_path)
    demo = run("--model", "openai/gpt-4o-mini", env=env)
    assert demo.returncode == 1
    assert re.search(r"demo: (Geographer|Naturalist): .*(?i:connect)", demo.stderr)
    assert "Traceback" not in demo.stderr
    (logs,) = tmp_path.iterdir()
    assert demo.stderr.endswith(f"logs: {logs}\n")
    assert " ready." in (logs / "worker.log").read_text()
    assert_ended(demo.stdout, 2)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("openai/gpt-4o-mini", "set OPENAI_API_KEY in the environment"),
        ("google/gemini-2.5-flash", "set GOOGLE_API_KEY or GEMINI_API_KEY in the environment"),
        ("gpt-4o-mini", "name the provider"),
    ],
)
def test_what_is_missing_for_a_providers_model_is_named_at_once(model: str, says: str) -> None:
    demo = run("--model", model)
    assert demo.returncode == 2
    assert says in demo.stderr
    assert demo.stdout == ""


def test_ctrl_c_that_falls_into_a_finalizer_is_heard_all_the_same() -> None:
    script = """
import os, signal, threading
from interruption import Interruption

class Finalized:
    def __del__(self):
        os.kill(os.getpid(), signal.SIGINT)
        print("in the finalizer", flush=True)  # and the interruption, which Python drops

interruption = Interruption()
interruption.install()
try:
    Finalized()
    threading.Event().wait(60)
except KeyboardInterrupt:
    interruption.ignore()
    print("heard")
"""
    ran = subprocess.run(
        [sys.executable, "-c", script], cwd=DEMO.parent, capture_output=True, text=True, timeout=60
    )
    assert ran.stdout.splitlines()[-1] == "heard", ran.stderr
    assert "Exception ignored" in ran.stderr, "it never fell into the finalizer"
