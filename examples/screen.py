from __future__ import annotations

import os
import sys
import threading
from collections.abc import Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

from typewriter import Typewriter

if TYPE_CHECKING:  # it brings Rustic's core, for which an error message should not wait
    from rustic_ai.llm_queue.resolver import AttemptRecord, QueueChatCompletionResponse

_INDENT = 4


class Screen:
    """What the demo shows: in colour on a terminal, plain elsewhere and with NO_COLOR."""

    def __init__(self) -> None:
        # A terminal that cannot show a character shall not end the demo.
        for stream in (sys.stdout, sys.stderr):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # TextIO lacks the method
        self._console, self._errors = _console(), _console(stderr=True)
        self._lock = threading.Lock()

    def title(self, text: str) -> None:
        self._print(Text(text, "bold"))

    def scene(self, text: str) -> None:
        self._print(Text(f"\n{text}", "bold cyan"))

    def note(self, text: str, style: str = "dim") -> None:
        self._print(Text(text, style))

    def working(self, text: str) -> AbstractContextManager[object]:
        """Says what is being waited for, on a terminal only."""
        return self._console.status(Text(text, "dim"))

    def part(self, name: str, what: str, after_s: float, pid: int | None = None) -> None:
        """A part that stands, `after_s` seconds from the start."""
        facts = f"  {after_s:.1f} s" + (f", pid {pid}" if pid else "")
        self._print(Text.assemble((f"{name:<7}", "green"), f" {what}", (facts, "dim")), indent=2)

    def exchange(self, agent: str, question: str, answer: QueueChatCompletionResponse) -> None:
        self.question(agent, question)
        self.indented(text_of(answer))
        if len(answer.attempts) > 1:
            self._attempts(answer.attempts)
        self.account(answer)

    def indented(self, text: str, style: str = "") -> None:
        self._print(Text(text, style), indent=_INDENT)

    def question(self, asked_by: str, question: str) -> None:
        self._print(Text.assemble((f"\n{asked_by}: ", "magenta"), (question, "yellow")), indent=2)

    def typewriter(self) -> Typewriter:
        """For an answer as it comes. Nothing else is to be shown until its line has ended."""
        return Typewriter(
            lambda text: self._console.out(text, end="", highlight=False),
            width=self._console.width,
            indent=_INDENT,
        )

    def account(self, answer: QueueChatCompletionResponse) -> None:
        """What the answer took, and which worker ran it."""
        usage = answer.usage
        facts = (
            answer.attempts[-1].model,
            f"{usage.prompt_tokens}+{usage.completion_tokens} tokens" if usage else "tokens unknown",
            price(answer.cost_usd),
            f"queued {answer.queue_wait_s or 0:.2f} s",
            f"ran {answer.run_time_s or 0:.2f} s",
            str(answer.worker),
        )
        self.indented(" · ".join(facts), "dim")

    def total(self, answers: Sequence[QueueChatCompletionResponse], took_s: float) -> None:
        tokens = sum(answer.usage.total_tokens for answer in answers if answer.usage)
        costs = [answer.cost_usd for answer in answers if answer.cost_usd is not None]
        cost = price(sum(costs) if costs else None)
        self._print(Text(f"\n{len(answers)} answers, {tokens} tokens, {cost}, in {took_s:.1f} s", "bold"))

    def error(self, text: str) -> None:
        self._errors.print(Text(f"demo: {text}", "bold red"), soft_wrap=True)

    def _attempts(self, attempts: Sequence[AttemptRecord]) -> None:
        for attempt in attempts:
            ok = attempt.status == "ok"
            how = "answered" if ok else f"failed ({attempt.error})"
            pause = f", then waited {attempt.backoff_s:.2f} s" if attempt.backoff_s else ""
            text = f"{attempt.number}. {attempt.model} {how} after {attempt.run_time_s or 0:.2f} s{pause}"
            self.indented(text, "green" if ok else "red")

    def _print(self, text: Text, indent: int = 0) -> None:
        with self._lock:
            for line in text.wrap(self._console, self._console.width - indent):
                line.rstrip()
                line.pad_left(indent if line.plain.strip() else 0)
                self._console.print(line)


def _console(*, stderr: bool = False) -> Console:
    # NO_COLOR is to mean bold and dim, too, which rich would keep.
    if os.environ.get("NO_COLOR"):
        return Console(highlight=False, color_system=None, stderr=stderr)
    return Console(highlight=False, stderr=stderr)


def text_of(answer: QueueChatCompletionResponse) -> str:
    return str(answer.choices[0].message.content).strip()


def price(cost_usd: float | None) -> str:
    return "no price" if cost_usd is None else f"${cost_usd:.6f}"
