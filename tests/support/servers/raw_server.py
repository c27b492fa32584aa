"""A server in the test's own event loop that answers every request with bytes of the test's choice."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from typing import Self

Respond = Callable[[], AsyncIterator[bytes]]


class RawServer:
    """Counts requests and the bytes it was able to send.

    Example::

        async with RawServer(endless) as server:
            ...  # a call goes to server.url
            assert server.requests == 1
    """

    def __init__(self, respond: Respond) -> None:
        self._respond = respond
        self.requests = 0
        self.sent_bytes = 0
        #: The client closed a connection before the answer was over.
        self.hung_up = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port: int = self._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self._server.close_clients()
        await self._server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            try:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = next(
                    (int(line.split(b":")[1]) for line in head.split(b"\r\n") if b"content-length" in line), 0
                )
                await reader.readexactly(length)
                self.requests += 1
                async for piece in self._respond():
                    writer.write(piece)
                    await writer.drain()
                    self.sent_bytes += len(piece)
            except ConnectionError:
                self.hung_up.set()
            finally:
                writer.close()


def head(status: int = 200, kind: str = "application/json", **headers: str) -> bytes:
    """The head of an answer whose body ends with the connection."""
    lines = [f"HTTP/1.1 {status} OK", f"content-type: {kind}", "connection: close"]
    lines += [f"{name.replace('_', '-')}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()
