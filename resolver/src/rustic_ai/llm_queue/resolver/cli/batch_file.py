from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import click

from rustic_ai.llm_queue.tasks.job import Priority
from rustic_ai.llm_queue.tasks.owner import Owner
from rustic_ai.llm_queue.tasks.privacy.printable import printable_json
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..batches.batch import Batch
from ..batches.file import Answer, RequestLine, answer_line, call_of, error_line, read_requests, reader_of
from ..batches.item import BatchItem
from ..batches.progress import ProgressBar
from ..batches.run import BatchRun
from ..call.submission import Submission
from ..engines import engine_for
from ..exceptions import QueueUnavailable
from .answer_file import AnswerFile
from .command_failed import CommandFailed, Interrupted, Unreachable
from .failures import failures
from .shell_user import GUILD, ORG, user


def carry_out(
    requests: Path,
    output: Path,
    *,
    model: str | None,
    max_in_flight: int,
    timeout_s: float,
    priority: Priority,
    as_json: bool,
) -> None:
    """Carry out a file of requests. Raises click's exceptions, and `SystemExit` when a line failed."""
    with failures(), AnswerFile(output) as answers:
        run = _BatchFile(requests, output, answers, model, timeout_s, priority)
        try:
            run.carry_out(max_in_flight)
        except KeyboardInterrupt:
            again = "run the same command to go on; what is under way is waiting then"
            raise Interrupted(f"stopped after {run.summary()}: {again}") from None
    click.echo(printable_json(run.figures(), indent=None) if as_json else run.summary(), err=not as_json)
    if run.failed:
        raise SystemExit(CommandFailed.exit_code)


class _BatchFile:
    def __init__(
        self,
        requests: Path,
        output: Path,
        answers: AnswerFile,
        model: str | None,
        timeout_s: float,
        priority: Priority,
    ) -> None:
        self._requests, self._output, self._answers = requests, output, answers
        self._model, self._timeout_s, self._priority = model, timeout_s, priority
        self._settings = QueueSettings()
        self._owner = Owner(org=ORG, guild=GUILD, agent=user())
        self._before = len(answers.done)
        self.answered = self.failed = 0
        self._cost_usd = 0.0
        # The same command finds its own jobs again, and no other's.
        self._key = hashlib.sha256(str(output.resolve()).encode()).hexdigest()

    def carry_out(self, max_in_flight: int) -> None:
        """Raises `KeyboardInterrupt`, `QueueUnavailable`."""

        def submission_of(line: RequestLine) -> Submission[Answer]:
            call = call_of(line, self._settings, model=self._model)
            return Submission.of_call(
                call,
                self._settings,
                self._owner,
                timeout_s=self._timeout_s,
                answer_reader=reader_of(call),
                priority=self._priority,
            )

        engine = engine_for(self._settings)
        with ProgressBar(self._requests.name, total=self._count(), done=self._before) as bar:
            items = Batch(
                engine,
                BatchRun[RequestLine, Answer](engine, self._settings),
                submission_of,
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

    def summary(self) -> str:
        """The same, for people."""
        before = f" ({self._before} more before)" if self._before else ""
        return f"{self.answered} answered{before}, {self.failed} failed, {self._cost_usd:.6f} USD"

    def _take(self, item: BatchItem[RequestLine, Answer]) -> None:
        if isinstance(item.error, QueueUnavailable):
            # No fault of the line's, and the next would meet it, too.
            raise Unreachable(f"stopped after {self.summary()}: {item.error}")
        if item.error is not None:
            self.failed += 1
            self._answers.add(error_line(item.request, item.error))
            return
        response = item.result()
        self.answered += 1
        self._cost_usd += response.cost_usd or 0.0
        self._answers.add(answer_line(item.request, response))

    def _lines(self) -> Iterator[RequestLine]:
        # Windows' editors begin a file with a byte order mark. Bytes that are no UTF-8 come through as
        # lone surrogates, by which `read_requests` knows their line.
        with self._requests.open(encoding="utf-8-sig", errors="surrogateescape") as file:
            for line in read_requests(file):
                # A second line with the id of an answered one is no answered line.
                if line.trouble is not None or line.custom_id not in self._answers.done:
                    yield line

    def _count(self) -> int:
        with self._requests.open("rb") as file:
            return sum(1 for line in file if line.strip())
