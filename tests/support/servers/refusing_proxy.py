"""A Redis that refuses some calls of the ledger's functions, and serves everything else."""

import socket
import socketserver
import threading
from typing import Self, cast

from support.servers.push_filter import bulk_words, reply_end


class RefusingProxy:
    """In front of a Redis server: answers chosen calls with an error, as a server in trouble does."""

    def __init__(self, target_port: int) -> None:
        self.target_port = target_port
        #: How often it has refused.
        self.refused = 0
        self._place, self._error, self._left = b"", b"", 0
        self._server = _Server(self)
        self.url = f"redis://127.0.0.1:{self._server.server_address[1]}/0"

    def refuse(self, function: str, error: str, times: int) -> None:
        """Answer the next so many calls of the ledger's function with this error line."""
        self._place, self._error, self._left = f"_{function}".encode(), f"-{error}\r\n".encode(), times

    def verdict(self, command: bytes) -> bytes | None:
        """The error that a command gets, None for one that is served."""
        words = bulk_words(command)
        if not self._left or words[0].upper() != b"FCALL" or not words[1].endswith(self._place):
            return None
        self._left -= 1
        self.refused += 1
        return self._error

    def __enter__(self) -> Self:
        threading.Thread(target=self._server.serve_forever, name="refusing proxy", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


class _Server(socketserver.ThreadingTCPServer):
    daemon_threads = True
    block_on_close = False

    def __init__(self, proxy: RefusingProxy) -> None:
        self.proxy = proxy
        super().__init__(("127.0.0.1", 0), _Link)


class _Link(socketserver.BaseRequestHandler):
    """One connection: every command gets its answer before the next one is looked at."""

    def handle(self) -> None:
        proxy, client = cast("_Server", self.server).proxy, cast("socket.socket", self.request)
        with socket.create_connection(("127.0.0.1", proxy.target_port)) as server:
            commands, replies = _Messages(client), _Messages(server)
            while (command := commands.next()) is not None:
                if (error := proxy.verdict(command)) is not None:
                    client.sendall(error)
                    continue
                server.sendall(command)
                if (reply := replies.next()) is None:
                    return
                client.sendall(reply)


class _Messages:
    """A socket's commands or replies, each whole."""

    def __init__(self, source: socket.socket) -> None:
        self._source, self._pending = source, b""

    def next(self) -> bytes | None:
        """None when the other side has hung up."""
        while (end := reply_end(self._pending, 0)) is None:
            try:
                more = self._source.recv(65_536)
            except OSError:
                return None
            if not more:
                return None
            self._pending += more
        message, self._pending = self._pending[:end], self._pending[end:]
        return message
