from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from .command_failed import CommandFailed, Interrupted, Unreachable, failures

if TYPE_CHECKING:
    from ..batches.file import RequestLine
    from ..batches.item import BatchItem
    from .answer_file import AnswerFile

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_ORG, _GUILD = "shell", "llm-queue"


@click.command()
@click.argument("requests", type=_FILE)
@click.option("-o", "--output", required=True, type=click.Path(dir_okay=False, path_type=Path),
              help="Where the answers go, and those of a run that stopped are.")  # fmt: skip
@click.option("-m", "--model", envvar="LLM_QUEUE_MODEL", help="For requests that name none.")
@click.option("--max-in-flight", type=click.IntRange(min=1), default=16, show_default=True)
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=600.0, show_default=True,
              help="Seconds for each request, waiting and retries included.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print the figures at the end as JSON.")
def batch(
    requests: Path, output: Path, model: str | None, max_in_flight: int, timeout: float, as_json: bool
) -> None:
    """Carry out a file of REQUESTS in OpenAI's batch format.

    Each line becomes a line of the output, in the order in which they are done. A line that is
    broken, or fails, is an error there and stops no other. The same command goes on where it was
    stopped: what is answered is not asked again, what failed is. Exits with 1 when a line failed.
    """
    with failures():
        from .answer_file import AnswerFile

        with AnswerFile(output) as answers:
            run = _Run(requests, output, answers, model, timeout)
            try:
                run.carry_out(max_in_flight)
            except KeyboardInterrupt:
                again = "run the same command to go on; what is under way is waiting then"
                raise Interrupted(f"stopped after {run.told()}: {again}") from None
    click.echo(json.dumps(run.figures()) if as_json else run.told(), err=not as_json)
    if run.failed:
        raise SystemExit(CommandFailed.exit_code)


class _Run:
    def __init__(
        self, requests: Path, output: Path, answers: AnswerFile, model: str | None, timeout_s: float
    ) -> None:
        from rustic_ai.llm_queue.tasks.owner import Owner
        from rustic_ai.llm_queue.tasks.settings import QueueSettings

        from .ask import user

        self._requests, self._output, self._answers = requests, output, answers
        self._model, self._timeout_s = model, timeout_s
        self._settings = QueueSettings()
        self._owner = Owner(org=_ORG, guild=_GUILD, agent=user())
        self._before = len(answers.done)
        self.answered = self.failed = 0
        self._cost_usd = 0.0
        # The same command finds its own jobs again, and no other's.
        self._key = hashlib.sha256(str(output.resolve()).encode()).hexdigest()

    def carry_out(self, max_in_flight: int) -> None:
        """Raises `KeyboardInterrupt`, `QueueUnavailable`."""
        from ..batches.batch import Batch
        from ..batches.progress import ProgressBar
        from ..batches.run import BatchRun
        from ..call.submission import Question
        from ..client.port import engine_for

        def pose(line: RequestLine) -> Question:
            from ..batches.file import call_of

            call = call_of(line, self._settings, model=self._model)
            return Question.of_call(call, self._settings, self._owner, timeout_s=self._timeout_s)

        engine = engine_for(self._settings)
        with ProgressBar(self._requests.name, total=self._count(), done=self._before) as bar:
            items = Batch(
                engine,
                BatchRun(engine, self._settings),
                pose,
                self._lines(),
                max_in_flight=max_in_flight,
                key_of=lambda _, line: f"{self._key}:{line.fingerprint}",
                as_completed=True,
                on_progress=bar,
            ).items()
            with closing(items):
                for item in items:
                    self._take(item)

    def figures(self) -> dict[str, int | float]:
        """What came of the run."""
        return {
            "answered": self.answered,
            "failed": self.failed,
            "answered_before": self._before,
            "cost_usd": round(self._cost_usd, 12),
        }

    def told(self) -> str:
        """The same, for people."""
        before = f" ({self._before} more before)" if self._before else ""
        return f"{self.answered} answered{before}, {self.failed} failed, {self._cost_usd:.6f} USD"

    def _take(self, item: BatchItem[RequestLine]) -> None:
        from ..batches.file import answer_line, error_line
        from ..exceptions import QueueUnavailable

        if isinstance(item.error, QueueUnavailable):
            # No fault of the line's, and the next would meet it, too.
            raise Unreachable(f"stopped after {self.told()}: {item.error}")
        if item.error is not None:
            self.failed += 1
            self._answers.add(error_line(item.request, item.error))
            return
        response = item.result()
        self.answered += 1
        self._cost_usd += response.cost_usd or 0.0
        self._answers.add(answer_line(item.request, response))

    def _lines(self) -> Iterator[RequestLine]:
        from ..batches.file import read_requests

        with self._requests.open(encoding="utf-8", errors="replace") as file:
            for line in read_requests(file):
                if line.custom_id not in self._answers.done:
                    yield line

    def _count(self) -> int:
        with self._requests.open("rb") as file:
            return sum(1 for line in file if line.strip())
