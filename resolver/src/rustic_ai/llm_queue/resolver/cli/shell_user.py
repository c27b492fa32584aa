from __future__ import annotations

import getpass

#: The organisation and guild of a shell's jobs, in logs and books.
ORG, GUILD = "shell", "llm-queue"


def user() -> str:
    """The name of this shell's user."""
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"  # a container's user without a name
