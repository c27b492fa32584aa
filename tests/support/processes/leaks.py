"""What must be gone when the work is done: keys without a TTL, and threads."""

import threading
from collections.abc import Iterable
from fnmatch import fnmatchcase

import redis

from support.processes.wait import wait_until

PERMANENT_KEYS = {
    "_kombu.binding*": "kombu's lists of the queues bound to each exchange; they do not grow with work",
}
"""Keys that may stay without a TTL, each with the reason."""

SHARED_THREADS = {
    "aws-signing_*": "LiteLLM's own, one pool a process, for requests of Bedrock's",
    "asyncio_*": "the default executor of a loop that another fixture still runs",
    "llm-queue-client": "the client engine: one thread a process for all callers, made at the first call",
}
"""Threads that outlive a test on purpose, by name, each with the reason."""


def lasting_keys(client: redis.Redis, allowed: Iterable[str] = ()) -> list[str]:
    """Keys of the database that have no TTL and are not permanent on purpose."""
    patterns = [*PERMANENT_KEYS, *allowed]
    found = []
    for raw in client.scan_iter(count=1000):
        key = raw if isinstance(raw, str) else raw.decode(errors="replace")
        if client.ttl(raw) == -1 and not any(fnmatchcase(key, pattern) for pattern in patterns):
            found.append(key)
    return sorted(found)


def assert_no_lasting_keys(client: redis.Redis, allowed: Iterable[str] = (), timeout_s: float = 5.0) -> None:
    """Wait until no key without a TTL is left.

    Raises:
        AssertionError: some are left after ``timeout_s`` seconds; names and types them.
    """
    allowed = list(allowed)
    try:
        wait_until(lambda: not lasting_keys(client, allowed), timeout_s)
    except AssertionError:
        left = [f"{key} ({client.type(key)!s})" for key in lasting_keys(client, allowed)]
        raise AssertionError(f"keys without a TTL are left: {', '.join(left)}") from None


def assert_no_new_threads(before: set[threading.Thread], timeout_s: float = 5.0) -> None:
    """Wait until no thread is left that was not among ``before``.

    Raises:
        AssertionError: some are left after ``timeout_s`` seconds; names them.
    """

    def new() -> list[str]:
        names = [one.name for one in threading.enumerate() if one not in before and one.is_alive()]
        return [name for name in names if not any(fnmatchcase(name, known) for known in SHARED_THREADS)]

    try:
        wait_until(lambda: not new(), timeout_s)
    except AssertionError:
        raise AssertionError(f"threads are left: {', '.join(new())}") from None
