"""One port for clients that speak TLS and for those that do not, as a server's two ports would be."""

import asyncio
import threading
from typing import Self

from support.servers.certificate import Certificate
from support.servers.ports import free_port
from support.servers.proxy import TcpProxy

_HANDSHAKE = b"\x16"
_CHUNK_BYTES = 64 * 1024


class EitherProxy:
    """Forwards ``port`` to ``target_port`` on 127.0.0.1, and ends TLS where a client begins with it.

    A Sentinel built without TLS tells its clients the address at which it watches the master: with this
    in front, the Sentinel may watch in plain text what the clients reach over TLS.
    """

    def __init__(self, target_port: int, certificate: Certificate) -> None:
        self.port = free_port()
        self.tls_proxy = TcpProxy(target_port, certificate=certificate)
        #: Connections that began otherwise than with a TLS handshake.
        self.plain = 0
        self._target_port = target_port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self) -> Self:
        self.tls_proxy.start()
        self._thread.start()
        listening = asyncio.start_server(self._accept, "127.0.0.1", self.port)
        asyncio.run_coroutine_threadsafe(listening, self._loop).result(10)
        return self

    def __exit__(self, *_: object) -> None:
        asyncio.run_coroutine_threadsafe(self._cancel_all(), self._loop).result(10)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()
        self.tls_proxy.close()

    async def _cancel_all(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        first = await reader.read(1)
        handshake = first == _HANDSHAKE
        self.plain += not handshake
        port = self.tls_proxy.port if handshake else self._target_port
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", port)
        target_writer.write(first)
        try:
            await asyncio.gather(_pass_on(reader, target_writer), _pass_on(target_reader, writer))
        finally:
            writer.close()
            target_writer.close()


async def _pass_on(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    try:
        while data := await reader.read(_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    except OSError:
        return  # one side is gone: so is the connection
    finally:
        writer.close()
