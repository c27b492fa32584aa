"""A server that could not be connected to, in words that name it."""

from __future__ import annotations

import os
import socket
import ssl
from collections.abc import Iterable

import aiohttp


def unreachable(chain: Iterable[BaseException]) -> str | None:
    """Which server could not be connected to, and why; None when that is not what failed.

    OpenAI's SDK has "Connection error." for it, aiohttp the `repr` of a TLS context.
    """
    for error in chain:
        if isinstance(error, aiohttp.ClientConnectorError):
            return f"cannot connect to {error.host}:{error.port}: {_reason(error)}"
    return None


def _reason(error: aiohttp.ClientConnectorError) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    cause = error.os_error
    # Both have numbers of their own.
    numbered = not isinstance(cause, ssl.SSLError | socket.gaierror)
    if numbered and cause.errno:
        return os.strerror(cause.errno)
    return cause.strerror or str(cause)
