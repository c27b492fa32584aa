"""What a log may show: no key wherever it comes from, and no exception's words but the trusted ones'."""

from __future__ import annotations

import copy
import logging
import os
from collections.abc import Callable

from redis.exceptions import RedisError

from ..names import PACKAGE
from .printable import printable
from .scrub import Scrubber

WITHHELD = "text withheld, it may quote a prompt"
_LONGEST_RECORD = 20_000
#: Their words are about connections and files. What any other exception says may be the caller's.
_TRUSTED = (OSError, RedisError, ImportError)
#: The same by name, of a library that an agent's environment does not have.
_TRUSTED_NAMES = frozenset({("kombu.exceptions", "OperationalError")})


class RedactingFilter(logging.Filter):
    """Passes every record on without secrets.

    Known are the values of variables named like secrets, and what has the shape of a key. It looks
    at the finished line, so no argument, extra handler or exception goes around it.
    """

    def __init__(self, scrubber: Callable[[], Scrubber] | None = None) -> None:
        super().__init__()
        self._scrubber = scrubber or _of_the_environment

    def filter(self, record: logging.LogRecord) -> logging.LogRecord:
        scrubber = self._scrubber()
        redacted = copy.copy(record)
        redacted.msg = printable(scrubber.scrub(_message(record), _LONGEST_RECORD), keep="\n\t")
        redacted.args = None
        redacted.exc_text = None
        if record.exc_info and record.exc_info[1] is not None:
            shown = stand_in(record.exc_info[1], scrubber)
            redacted.exc_info = (type(shown), shown, shown.__traceback__)
        if record.stack_info:
            redacted.stack_info = scrubber.scrub(record.stack_info, _LONGEST_RECORD)
        return redacted


def redact(handler: logging.Handler, scrubber: Scrubber) -> None:
    """Let nothing unredacted through a handler. Doing it twice is safe."""
    if not any(isinstance(one, RedactingFilter) for one in handler.filters):
        handler.addFilter(RedactingFilter(lambda: scrubber))


def get_logger(name: str) -> logging.Logger:
    """A logger whose records are redacted, whatever handlers the application gives it."""
    logger = logging.getLogger(name)
    if not any(isinstance(one, RedactingFilter) for one in logger.filters):
        logger.addFilter(RedactingFilter())
    return logger


def stand_in(error: BaseException, scrubber: Scrubber) -> Exception:
    """An exception with the name, the frames and the causes of `error`, and words that may be shown."""
    seen: dict[int, Exception] = {}

    def of(one: BaseException | None) -> Exception | None:
        if one is None:
            return None
        if id(one) in seen:
            return seen[id(one)]
        kind = type(one)
        names = {"__module__": kind.__module__, "__qualname__": kind.__qualname__}
        shown: Exception = type(kind.__name__, (Exception,), names)(_words(one, scrubber))
        seen[id(one)] = shown
        shown.__traceback__ = one.__traceback__
        shown.__cause__, shown.__context__ = of(one.__cause__), of(one.__context__)
        shown.__suppress_context__ = one.__suppress_context__
        return shown

    whole = of(error)
    assert whole is not None
    return whole


def _words(error: BaseException, scrubber: Scrubber) -> str:
    kind = type(error)
    ours = kind.__module__.startswith(PACKAGE) or (kind.__module__, kind.__name__) in _TRUSTED_NAMES
    if ours or isinstance(error, _TRUSTED):
        return printable(scrubber.scrub(str(error), _LONGEST_RECORD), keep="\n\t")
    return WITHHELD if str(error) else ""


def _message(record: logging.LogRecord) -> str:
    try:
        return record.getMessage()
    except Exception:
        # A wrong format must not print its arguments to standard error, as logging does.
        return f"a log record of {record.name} that does not format"


def _of_the_environment() -> Scrubber:
    return Scrubber.of_environment(os.environ)
