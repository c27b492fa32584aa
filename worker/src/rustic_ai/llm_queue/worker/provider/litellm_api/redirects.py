from __future__ import annotations

import functools
from typing import Any

import httpx


def follow_no_redirects() -> None:
    """Make this process's HTTP clients answer with a redirect instead of following it.

    Whoever serves a `base_url` could otherwise send the worker on to an address inside, and a
    provider's redirect would take along the keys that stand in headers of its own. Doing it twice
    is safe.
    """
    for client in (httpx.Client, httpx.AsyncClient):
        send: Any = client.send
        if not hasattr(send, "__wrapped__"):
            client.send = _staying(send)  # type: ignore[method-assign]  # no option reaches every client


def _staying(send: Any) -> Any:
    @functools.wraps(send)
    def staying(*args: Any, **options: Any) -> Any:
        return send(*args, **{**options, "follow_redirects": False})

    return staying
