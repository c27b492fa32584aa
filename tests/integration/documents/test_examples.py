"""The examples, run as a reader runs them: on real parts, and on `memory://`."""

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

import pytest

from support.processes.process import ChildProcess
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step

EXAMPLES = Path(__file__).parents[3] / "examples"
MEMORY = {"LLM_QUEUE_REDIS_URL": "memory://?otherwise=Because+they+can."}
LONGEST_S = 60


@pytest.fixture(params=["memory", "redis"])
def env(request: pytest.FixtureRequest, redis_url: str, provider: ProviderStub) -> dict[str, str]:
    """Where the example's calls go; everywhere it is told "Because they can."."""
    if request.param == "memory":
        return MEMORY
    return real(request, redis_url, provider)


@pytest.fixture
def real_env(request: pytest.FixtureRequest, redis_url: str, provider: ProviderStub) -> dict[str, str]:
    """A real queue."""
    return real(request, redis_url, provider)


def real(request: pytest.FixtureRequest, redis_url: str, provider: ProviderStub) -> dict[str, str]:
    request.getfixturevalue("worker")
    answer = Step(text="Because they can.", prompt_tokens=1000, completion_tokens=100, times=None)
    provider.plan("*", answer)
    return {"LLM_QUEUE_REDIS_URL": redis_url}


def run(
    name: str,
    *arguments: str,
    env: Mapping[str, str],
    said: str | None = None,
    folder: Path | None = None,
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(name, *arguments), env={**os.environ, **env}, input=said, cwd=folder,
        capture_output=True, text=True, timeout=LONGEST_S, check=False,
    )  # fmt: skip


def command(name: str, *arguments: str) -> list[str]:
    return [sys.executable, "-u", str(EXAMPLES / name), *arguments]


def last_line(ran: subprocess.CompletedProcess[str]) -> str:
    return ran.stderr.splitlines()[-1]


@pytest.mark.parametrize("options", [[], ["--yaml"]], ids=["python", "yaml"])
def test_a_guild_answers(env: dict[str, str], options: list[str]) -> None:
    guild = run("guild.py", *options, "Why do birds sing?", env=env)
    assert (guild.returncode, guild.stdout) == (0, "Because they can.\n"), guild.stderr


def test_a_guild_reports_its_agents_error() -> None:
    guild = run("guild.py", "Why?", env={"LLM_QUEUE_REDIS_URL": "memory://"})
    assert guild.returncode == 1
    # Above it is what Rustic logs.
    assert re.match(r"The in-memory queue has no answer left.*model openai/gpt-4o-mini]$", last_line(guild))
    assert guild.stdout == ""


def test_a_chat_goes_on_for_several_turns(env: dict[str, str]) -> None:
    chat = run("chat.py", env=env, said="Why do birds sing?\n\nAnd why fly?\n")
    assert chat.returncode == 0, chat.stderr
    assert chat.stdout == "you> Because they can.\nyou> you> Because they can.\nyou> \n"


def test_a_chat_remembers_what_was_said(real_env: dict[str, str], provider: ProviderStub) -> None:
    provider.plan("*", Step(text="Because."), Step(status=400, message="not that"), Step(text="Again."))
    chat = run("chat.py", env=real_env, said="One?\nTwo?\nThree?\n")
    assert "[not that" in chat.stdout
    assert chat.returncode == 0
    said = [message["content"] for message in provider.requests()[-1].body["messages"]]
    assert said[1:] == ["One?", "Because.", "Three?"], "a turn without an answer is forgotten"


class Typed:
    """An example at whose prompt the test sits."""

    def __init__(self, name: str, env: Mapping[str, str]) -> None:
        self.process = subprocess.Popen(
            command(name), env={**os.environ, **env}, text=True, start_new_session=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def type(self, text: str) -> None:
        self._pipe(self.process.stdin).write(f"{text}\n")
        self._pipe(self.process.stdin).flush()

    def read_to(self, text: str) -> str:
        said = ""
        while text not in said:
            one = self._pipe(self.process.stdout).read(1)
            assert one, f"no {text!r} in {said!r}"
            said += one
        return said

    def _pipe(self, pipe: IO[str] | None) -> IO[str]:
        assert pipe is not None
        return pipe


@pytest.fixture
def chat(real_env: dict[str, str]) -> Iterator[Typed]:
    typed = Typed("chat.py", real_env)
    with typed.process:
        yield typed
        typed.process.kill()


def test_ctrl_c_stops_an_answer_and_then_the_chat(chat: Typed, provider: ProviderStub) -> None:
    provider.plan("*", Step(text="On and on and on.", chunk_delay_s=20), Step(text="Short."))
    chat.read_to("you> ")
    chat.type("Go on for ever.")
    chat.read_to("On")
    os.killpg(chat.process.pid, signal.SIGINT)
    chat.read_to("[cancelled]\nyou> ")
    (call,) = provider.wait_for(lambda seen: not seen[0].open)
    assert call.client_closed, "nobody pays for the rest"
    chat.type("Once more.")
    chat.read_to("Short.\nyou> ")
    os.killpg(chat.process.pid, signal.SIGINT)
    rest, _ = chat.process.communicate(timeout=20)
    assert (chat.process.returncode, rest) == (0, "\n")


def test_a_hundred_documents(env: dict[str, str], tmp_path: Path) -> None:
    output = tmp_path / "summaries.jsonl"
    fan_out = run("fan_out.py", "--output", str(output), env=env)
    assert fan_out.returncode == 0, fan_out.stderr
    lines = [json.loads(line) for line in output.read_text().splitlines()]
    assert [line["document"] for line in lines] == [f"document-{number:03}" for number in range(1, 101)]
    assert {line["summary"] for line in lines} == {"Because they can."}
    # 1,000 tokens in and 100 out at gpt-4o-mini's price, a hundred times; a script has no price.
    usd = "0.000000" if env is MEMORY else "0.021000"
    assert fan_out.stdout == f"100 answered, 0 failed, {usd} USD\n"
    assert "100/100" in fan_out.stderr


def test_documents_that_fail_are_reported_and_asked_again(
    real_env: dict[str, str], provider: ProviderStub, tmp_path: Path
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.txt").write_text(f"Document #{name} ends.")
    provider.plan("b", Step(status=400, message="too boring"))
    arguments = ("--output", str(tmp_path / "out.jsonl"), str(tmp_path))
    first = run("fan_out.py", *arguments, env=real_env)
    assert (first.returncode, first.stdout) == (1, "2 answered, 1 failed, 0.000420 USD\n")
    assert "b.txt: " in first.stderr
    assert "too boring" in first.stderr
    second = run("fan_out.py", *arguments, env=real_env)
    assert (second.returncode, second.stdout) == (0, "3 answered, 0 failed, 0.000630 USD\n")
    assert [len(provider.requests(name)) for name in ("a", "b", "c")] == [1, 2, 1]


def test_documents_go_on_where_ctrl_c_stopped_them(
    real_env: dict[str, str], provider: ProviderStub, tmp_path: Path
) -> None:
    documents = tmp_path / "documents"
    documents.mkdir()
    for number in range(4):
        (documents / f"{number}.txt").write_text(f"Document #n{number} ends.")
    provider.plan("n3", Step(text="Late.", hold=True))
    arguments = ("--output", str(tmp_path / "out.jsonl"), str(documents))
    stopped = ChildProcess(
        command("fan_out.py", *arguments), env={**os.environ, **real_env}, log_path=tmp_path / "log"
    )
    stopped.start()
    try:
        provider.wait_for_requests(1, "n3", timeout_s=LONGEST_S)
        wait_until(lambda: len(provider.requests()) == 4, 10, "all documents to be asked")
        stopped.send_signal(signal.SIGINT)
        assert stopped.wait() == 130
    finally:
        stopped.kill()
    assert re.search(r"stopped; the same command goes on from here\n$", stopped.logs())
    assert "Traceback" not in stopped.logs()
    provider.release("n3")
    again = run("fan_out.py", *arguments, env=real_env)
    assert again.stdout.startswith("4 answered, 0 failed")
    assert [len(provider.requests(f"n{number}")) for number in range(4)] == [1, 1, 1, 1]


def test_a_guild_with_a_vector_store_finds_a_passage(env: dict[str, str], tmp_path: Path) -> None:
    passages = ["Taxes are due in April.", "Where do cats sleep?", "It rains."]
    found = run("library.py", "Where do cats sleep?", *passages, env=env, folder=tmp_path)
    assert found.stdout == "Where do cats sleep?\n", found.stderr
