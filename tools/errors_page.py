"""Writes docs/errors.md from the exceptions and the kinds of failure: `make docs`."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

import openai

from rustic_ai.llm_queue.resolver import exceptions
from rustic_ai.llm_queue.resolver.exceptions import BY_KIND, QueueError
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind, Next

PAGE = Path(__file__).parents[1] / "docs" / "errors.md"
_HEAD = """# Errors

Every error is a `QueueError`: core's `APIError` and an exception of `openai` in one, so that agents which
catch either need no change. It has `kind`, `status_code` (one of core's `ResponseCodes`), `provider_status`,
`job_id`, `model`, `attempts`, `account` and `retry_after_s`.

This page is written by `make docs` from the exceptions and the kinds of failure.

## The tree

```text
"""
_KINDS_HEAD = """```

## By kind

A worker reports a kind of failure. The class follows from it, and so does what the worker does first.

| Kind | Exception | `openai` class | Usual status | When | First the worker |
|---|---|---|---|---|---|
"""
_OTHERS_HEAD = """
## Without a kind

Raised by the caller's own side, or for an end that is no failure.

| Exception | `openai` class | When |
|---|---|---|
"""
_TAIL = """
A wrong property raises `ConfigurationError` when the guild is launched, a wrong variable `SettingsError`:
both are a `ValueError`.
"""
_FIRST = {
    Next.RETRY: "backs off, retries, falls back",
    Next.FALL_BACK: "falls back to the next model",
    Next.GIVE_UP: "gives up at once",
}


def page() -> str:
    """The page's text."""
    tree = (exceptions.__doc__ or "").partition("\n\n")[2].strip("\n")
    kinds = "".join(_kind_row(kind) for kind in ErrorKind)
    others = "".join(_other_rows())
    return f"{_HEAD}{tree}\n{_KINDS_HEAD}{kinds}{_OTHERS_HEAD}{others}{_TAIL}"


def _kind_row(kind: ErrorKind) -> str:
    error = BY_KIND[kind]
    cells = (
        f"`{kind}`",
        f"`{error.__name__}`",
        f"`{_openai_class(error)}`",
        "" if kind.status is None else str(kind.status),
        _when(error),
        _FIRST[kind.follows] if kind.sent else "sends nothing",
    )
    return f"| {' | '.join(cells)} |\n"


def _other_rows() -> Iterator[str]:
    for name, error in inspect.getmembers(exceptions, _is_error):
        if error not in BY_KIND.values():
            yield f"| `{name}` | `{_openai_class(error)}` | {_when(error)} |\n"


def _is_error(one: Any) -> TypeGuard[type[QueueError]]:
    return inspect.isclass(one) and issubclass(one, QueueError) and one is not QueueError


def _openai_class(error: type[QueueError]) -> str:
    names = (base.__name__ for base in error.__mro__)
    return next(name for name in names if issubclass(error, getattr(openai, name, ())))


def _when(error: type[QueueError]) -> str:
    return (inspect.getdoc(error) or "").partition("\n")[0].replace("|", "\\|")


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
