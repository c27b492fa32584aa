"""A guild, a queue, a worker and a model, all on this machine: `make demo`.

With `--model provider/name` and the provider's key in the environment, that model answers instead.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import time

from failure import DemoFailed
from interruption import Interruption
from local_model import LocalModelError
from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from screen import Screen
from stage import Stage

_FAILED, _WRONG_USAGE, _INTERRUPTED = 1, 2, 130


def main() -> int:
    """Returns the exit code: 0 when all was answered, 1 when not, 2 for wrong usage, 130 on Ctrl-C."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--model", help="such as openai/gpt-4o-mini; by default a small model on this machine"
    )
    model: str | None = parser.parse_args().model
    screen = Screen()
    if model is not None and (problem := _why_not(model)):
        screen.error(problem)
        return _WRONG_USAGE
    # The machine's own settings are for its own queue.
    for name in [name for name in os.environ if name.startswith("LLM_QUEUE_")]:
        del os.environ[name]
    interruption = Interruption()
    interruption.install()
    try:
        return _run(screen, interruption, model)
    except KeyboardInterrupt:
        screen.note("")  # whatever line was being written has its end
        screen.error("interrupted; nothing is left running")
        return _INTERRUPTED


def _run(screen: Screen, interruption: Interruption, model: str | None) -> int:
    screen.title("An agent's completion, through a queue to a worker and back")
    began = time.monotonic()
    with Stage(interruption, screen.part, local_model=model is None) as stage:
        try:
            os.environ |= stage.settings
            logging.basicConfig(filename=stage.directory / "guild.log", level=logging.WARNING)
            # Rustic's core takes seconds to import; the worker and the models start meanwhile.
            from scenes import play
            from study import Study

            with Study(model) as study:
                screen.part(
                    "guild",
                    "Geographer (sync), Naturalist (async), Writer (streams)",
                    time.monotonic() - began,
                )
                with screen.working("the worker imports LiteLLM"):
                    stage.wait_ready()
                play(screen, stage, study)
        except (DemoFailed, LocalModelError) as error:
            stage.keep_logs = True
            screen.error(f"{error}\nlogs: {stage.directory}")
            return _FAILED
    screen.note("Nothing is left running.")
    return 0


def _why_not(model: str) -> str | None:
    provider, _, name = model.partition("/")
    if not (provider and name):
        return f"MODEL={model}: name the provider, too, as in openai/gpt-4o-mini"
    variables = KEY_VARIABLES.get({"google": "gemini"}.get(provider, provider), ())
    if variables and not any(os.environ.get(variable) for variable in variables):
        return f"MODEL={model} needs the provider's key: set {' or '.join(variables)} in the environment"
    return None


if __name__ == "__main__":
    sys.exit(main())
