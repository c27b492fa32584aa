from __future__ import annotations

import functools
from typing import Any

import httpx

from .exchange import note_answer


def guard_clients() -> None:
    """Make every HTTP client of this process keep the worker's rules. Doing it twice is safe.

    No client follows a redirect: the owner of a `base_url` could otherwise send the worker on to an
    address inside, and a provider's redirect would take along keys that stand in headers of its own.
    """
    for client, guarded in ((httpx.Client, _guarded), (httpx.AsyncClient, _guarded_async)):
        send: Any = client.send
        if not hasattr(send, "__wrapped__"):
            client.send = guarded(send)  # type: ignore[method-assign]  # no option reaches every client


def _guarded(send: Any) -> Any:
    @functools.wraps(send)
    def guarded(*args: Any, **options: Any) -> Any:
        response = send(*args, **{**options, "follow_redirects": False})
        note_answer(response.status_code)
        return response

    return guarded


def _guarded_async(send: Any) -> Any:
    @functools.wraps(send)
    async def guarded(*args: Any, **options: Any) -> Any:
        response = await send(*args, **{**options, "follow_redirects": False})
        note_answer(response.status_code)
        return response

    return guarded
