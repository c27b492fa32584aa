"""Directories for logs and data, removed when the test session's process ends."""

import atexit
import functools
import os
import shutil
import tempfile
from pathlib import Path


def scratch_dir(what: str) -> Path:
    """A new empty directory whose name begins with ``what``."""
    return Path(tempfile.mkdtemp(prefix=f"{what}-", dir=_root(os.getpid())))


@functools.cache
def _root(pid: int) -> Path:
    root = Path(tempfile.mkdtemp(prefix="llm-queue-tests-"))

    def remove() -> None:
        # A fork of this process inherits the hook, and must not take the directory away from it.
        if os.getpid() == pid:
            shutil.rmtree(root, ignore_errors=True)

    atexit.register(remove)
    return root
