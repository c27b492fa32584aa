"""Runs a command with a Docker engine and the project's image: `python -m docker_engine COMMAND ...`.

An engine that answers is used as it is. Where there is none, root gets one of its own, in a folder
(`LLM_QUEUE_ENGINE_HOME`, by default in the user's cache), which is stopped at the end. Images come from
their registry, or are stood in for on an engine of its own. `LLM_QUEUE_ENGINE=own` ignores one that answers.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from .daemon import OwnDaemon, answers
from .images import PROJECT_IMAGE, Images
from .packages import Packages
from .steps import StepFailed, Steps

REPOSITORY = Path(__file__).resolve().parents[2]


def _home() -> Path:
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    home = Path(os.environ.get("LLM_QUEUE_ENGINE_HOME") or cache / "llm-queue-engine").resolve()
    home.mkdir(parents=True, exist_ok=True)
    # Programs in it are run as root.
    if home.stat().st_uid != os.getuid():
        raise StepFailed(f"{home} belongs to another user; set LLM_QUEUE_ENGINE_HOME to a folder of your own")
    home.chmod(0o700)
    return home


def _on_engine_here(command: list[str], steps: Steps) -> int:
    steps.done("the engine that is here answers")
    images = Images(REPOSITORY, os.environ, steps)
    if missing := images.pull():
        raise StepFailed(
            f"the engine cannot pull {', '.join(missing)}; load these images into it, or set "
            "LLM_QUEUE_ENGINE=own for an engine with stand-ins"
        )
    images.build_project()
    return _test(command, os.environ, steps)


def _on_own_engine(command: list[str], steps: Steps) -> int:
    if os.getuid() != 0:
        raise StepFailed(
            "no Docker engine with Compose 2 answers, and only root can start one. Start one, name it in "
            "DOCKER_HOST, or run this as root on Debian."
        )
    home = _home()
    packages = Packages(home)
    with OwnDaemon(home, packages, steps) as daemon:
        # While they build, containers of this engine reach no network but the machine's.
        arguments = f"--network host {os.environ.get('DOCKER_BUILD_ARGS', '')}"
        env = {**daemon.env, "DOCKER_BUILD_ARGS": arguments}
        images = Images(REPOSITORY, env, steps)
        images.forget_old_stand_ins()
        if missing := images.pull():
            images.stand_in(missing, home, packages)
        else:
            steps.done("images are there")
        images.build_project()
        return _test(command, env, steps)


def _test(command: list[str], env: Mapping[str, str], steps: Steps) -> int:
    done = subprocess.run(command, env={**env, "LLM_QUEUE_IMAGE": PROJECT_IMAGE}, check=False)
    steps.done(f"{Path(command[0]).name} ended with {done.returncode}")
    return done.returncode


def main(command: list[str]) -> int:
    """The command's own exit code; 1 when there is no engine for it."""
    if not command:
        print("usage: python -m docker_engine COMMAND ...", file=sys.stderr)
        return 2
    # The daemon is stopped however this ends.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    steps = Steps()
    own = os.environ.get("LLM_QUEUE_ENGINE") == "own"
    try:
        run_on = _on_own_engine if own or not answers(os.environ) else _on_engine_here
        code = run_on(command, steps)
    except StepFailed as failed:
        print(f"docker-test: {failed}", file=sys.stderr)
        return 1
    steps.total()
    return code


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
