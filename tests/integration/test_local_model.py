"""The small real model answers, and its server leaves nothing behind."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

import local_model
from local_model import LocalModelError, LocalModelServer
from support.processes.wait import wait_until


def ask(server: LocalModelServer, **fields: object) -> httpx.Response:
    question = {"role": "user", "content": "What is the capital of France?"}
    body = {"model": server.model, "messages": [question], "max_tokens": 12, "temperature": 0, **fields}
    return httpx.post(f"{server.base_url}/chat/completions", json=body, timeout=60)


def test_the_model_says_the_same_streamed_or_not(local_model_server: LocalModelServer) -> None:
    answer: dict[str, Any] = ask(local_model_server).json()
    said = answer["choices"][0]["message"]["content"]
    assert said
    assert answer["usage"]["completion_tokens"] == 12
    streamed = ask(local_model_server, stream=True).text
    assert streamed.count("data: {") > 5
    assert streamed.rstrip().endswith("data: [DONE]")


def test_it_starts_again_on_its_port_and_stopping_twice_is_safe() -> None:
    server = LocalModelServer()
    server.stop()
    server.start()
    first = server.pid
    server.start()
    assert server.pid == first
    server.stop()
    server.stop()
    assert server.pid is None
    with pytest.raises(httpx.ConnectError):
        ask(server)
    with server:
        assert ask(server).status_code == 200


def test_it_ends_with_the_process_that_started_it() -> None:
    code = (
        f"import os; from {local_model.__name__} import LocalModelServer; "
        "server = LocalModelServer(); server.start(); print(server.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    starter = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(local_model.__file__).parent,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    orphan = int(starter.stdout)
    wait_until(lambda: not _lives(orphan), 10, "the orphaned server's end")


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local_model, "_WEIGHTS_PACKAGE", "no_such_weights")
    with pytest.raises(LocalModelError, match=r"rusticai-llm-queue\[local\]"):
        LocalModelServer().start()


def _lives(pid: int) -> bool:
    return psutil.pid_exists(pid) and psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
