from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from ..batches.file import answered
from .command_failed import CommandFailed


class AnswerFile:
    """The output of a batch, which may go on one that stopped: its answers stay, its errors do not.

    One process writes it at a time. A context manager.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        #: The custom ids that are answered.
        self.done: set[str] = set()
        self._file: IO[str]

    def __enter__(self) -> Self:
        """Raises `CommandFailed` when it cannot be written, or another process does."""
        try:
            self._file = self._path.open("a+", encoding="utf-8")
            _lock(self._file, self._path)
            self._file.seek(0)
            lines = self._file.readlines()
        except (OSError, UnicodeDecodeError) as error:
            reason = error.strerror if isinstance(error, OSError) else "it is not a batch's output"
            raise CommandFailed(f"{self._path}: {reason}") from None
        kept = [line for line in lines if line.endswith("\n") and answered(line) is not None]
        self.done = {custom_id for line in kept if (custom_id := answered(line)) is not None}
        if len(kept) < len(lines):
            self._keep(kept)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def add(self, line: str) -> None:
        """Write a line, at once, so that it is kept if the process dies."""
        self._file.write(line)
        self._file.flush()

    def _keep(self, lines: list[str]) -> None:
        """Write the file anew with these lines alone, so that it is whole at any moment."""
        beside = self._path.with_name(f".{self._path.name}.new")
        file = beside.open("w", encoding="utf-8")
        _lock(file, beside)
        file.writelines(lines)
        file.flush()
        os.replace(beside, self._path)
        self._file.close()
        self._file = file


def _lock(file: IO[str], path: Path) -> None:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        file.close()
        raise CommandFailed(f"{path}: another run writes it") from None
