"""A TCP proxy on loopback that misbehaves on demand."""

import asyncio
import ssl
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Self

from support.servers.certificate import Certificate
from support.servers.ports import free_port
from support.servers.push_filter import Decide, Fate, PushFilter

_CHUNK_BYTES = 64 * 1024


class TcpProxy:
    """Forwards ``port`` to ``target_port`` on 127.0.0.1, from a thread of its own.

    All methods may be called from any thread and return when they are in force. Stopping twice is safe.

    Args:
        target_port: where to forward to.
        latency_s: how much later everything arrives, each way; may be changed at any time.
        certificate: speak TLS to clients (and plain TCP to the target): ``rediss://`` for a server
            whose binary has no TLS.
        decide: drop or double the pub/sub messages that a Redis target sends; see `PushFilter`. Must be
            given here to be heeded; may be replaced at any time, None delivers all.
    """

    def __init__(
        self,
        target_port: int,
        *,
        latency_s: float = 0.0,
        certificate: Certificate | None = None,
        decide: Decide | None = None,
    ) -> None:
        self.port = free_port()
        self.target_port = target_port
        self.latency_s = latency_s
        self.decide = decide
        self._filtering = decide is not None
        self.accepted = 0
        #: A client that sends these bytes gets no further on that connection: neither they nor
        #: anything after them passes. May be changed at any time.
        self.stall_on: bytes | None = None
        #: How many connections have been brought to a stop by `stall_on`.
        self.stalled = 0
        self._tls = _server_context(certificate) if certificate else None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name=f"proxy-{self.port}", daemon=True)
        self._server: asyncio.Server | None = None
        self._open: asyncio.Event | None = None
        self._links: set[asyncio.Task[None]] = set()
        self._transports: set[asyncio.WriteTransport] = set()

    @property
    def redis_url(self) -> str:
        """``redis://`` or, with a certificate, ``rediss://`` to the proxy; database 0."""
        return f"redis{'s' if self._tls else ''}://127.0.0.1:{self.port}/0"

    @property
    def http_url(self) -> str:
        """``http://127.0.0.1:PORT``."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """Clients connected now."""
        return len(self._links)

    def start(self) -> None:
        """Listen and forward."""
        self._thread.start()
        self._run(self._listen())

    def cut(self) -> int:
        """Reset every connection; new ones are welcome. Returns how many there were."""
        return self._run(self._cut())

    def blackhole(self) -> None:
        """Half-open: connections stay, new ones are accepted, and nothing passes, not even an ending.

        What is sent meanwhile waits in the kernel's buffers, as if it were being retransmitted.
        """
        self._run(self._set_open(open_=False))

    def strand(self) -> None:
        """Half-open for good: on connections there are nothing ever passes again; new ones work."""
        self._run(self._strand())

    def heal(self) -> None:
        """End a blackhole: what was held goes on."""
        self._run(self._set_open(open_=True))

    def refuse(self) -> None:
        """Refuse new connections; what is connected stays."""
        self._run(self._stop_listening())

    def accept(self) -> None:
        """Listen again after `refuse`, on the same port."""
        self._run(self._listen())

    def close(self) -> None:
        """Cut everything and end the thread."""
        if not self._thread.is_alive():
            return
        self.refuse()
        self.cut()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(10)
        self._loop.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run[T](self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

    async def _listen(self) -> None:
        if self._open is None:
            self._open = asyncio.Event()
            self._open.set()
        if self._server is None:
            self._server = await asyncio.start_server(
                self._accept, "127.0.0.1", self.port, ssl=self._tls, backlog=4096
            )

    async def _stop_listening(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None

    async def _set_open(self, *, open_: bool) -> None:
        assert self._open is not None, "the proxy has not been started"
        if open_:
            self._open.set()
        else:
            self._open.clear()

    async def _strand(self) -> None:
        await self._set_open(open_=False)
        self._open = asyncio.Event()
        self._open.set()

    async def _cut(self) -> int:
        links = list(self._links)
        for transport in list(self._transports):
            transport.abort()
        for link in links:
            link.cancel()
        await asyncio.gather(*links, return_exceptions=True)
        return len(links)

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = asyncio.current_task()
        assert link is not None
        self._links.add(link)
        self._transports.add(writer.transport)
        self.accepted += 1
        try:
            await self._link(reader, writer)
        except OSError:
            writer.transport.abort()  # the target refuses or is gone: so are we
        except asyncio.CancelledError:
            pass  # `cut` has closed both sides; the task's end is nobody's concern
        finally:
            self._links.discard(link)
            self._transports.discard(writer.transport)
            writer.close()

    async def _link(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        gate = self._open
        assert gate is not None, "the proxy has not been started"
        await gate.wait()
        target_reader, target_writer = await asyncio.open_connection("127.0.0.1", self.target_port)
        self._transports.add(target_writer.transport)
        push_filter = PushFilter(self._fate) if self._filtering else None
        try:
            async with asyncio.TaskGroup() as directions:
                directions.create_task(self._forward(reader, target_writer, gate, self._let_pass))
                feed = push_filter.feed if push_filter else None
                directions.create_task(self._forward(target_reader, writer, gate, feed))
        except* OSError:
            writer.transport.abort()
            target_writer.transport.abort()
        finally:
            self._transports.discard(target_writer.transport)
            target_writer.close()

    def _fate(self, channel: str, payload: bytes) -> Fate:
        return self.decide(channel, payload) if self.decide else Fate.DELIVER

    def _let_pass(self, data: bytes) -> bytes | None:
        if self.stall_on is None or self.stall_on not in data:
            return data
        self.stalled += 1
        return None

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        gate: asyncio.Event,
        feed: Callable[[bytes], bytes | None] | None,
    ) -> None:
        """Pass on what `feed` makes of it, each part `latency_s` after it came, in order; then the ending."""
        delayed: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=1024)

        async def deliver() -> None:
            while True:
                due, data = await delayed.get()
                await asyncio.sleep(max(0.0, due - self._loop.time()))
                await gate.wait()
                if not data:
                    if writer.can_write_eof():
                        writer.write_eof()
                    else:
                        writer.close()  # TLS cannot end one direction alone
                    return
                writer.write(data)
                await writer.drain()

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            while True:
                await gate.wait()
                data = await reader.read(_CHUNK_BYTES)
                passed = feed(data) if feed and data else data
                if passed is None:
                    await asyncio.Event().wait()  # until the connection is cut
                elif passed or not data:
                    await delayed.put((self._loop.time() + self.latency_s, passed))
                if not data:
                    return


def _server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert_path, certificate.key_path)
    return context
