from __future__ import annotations

from contextvars import ContextVar
from dataclasses import dataclass


@dataclass(slots=True)
class Exchange:
    """How far the HTTP requests of one call have come: tells a provider's failure from the worker's own."""

    #: The provider has begun an answer that is no error: a failure to read it may be the answer's fault.
    answered: bool = False


_current: ContextVar[Exchange | None] = ContextVar("exchange", default=None)


def begin_exchange() -> None:
    """Begin to note what the HTTP clients do for the current task, and the threads it starts."""
    _current.set(Exchange())


def note_answer(status: int) -> None:
    """A provider's answer with this HTTP status has begun."""
    exchange = _current.get()
    if exchange is not None and status < 400:
        exchange.answered = True


def answer_has_begun() -> bool:
    """Whether the current task's call has been answered, with a status that is no error's."""
    exchange = _current.get()
    return exchange is not None and exchange.answered
