"""One client's connection to the provider."""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from typing import Any, cast

from bench.stub.replies import STREAM_END, STREAM_HEAD, Replies, asked, embeddings, on_the_clock

_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_OPTION = re.compile(rb"\b(chunks|pace|hold|wait)=(\d+)")


class Provider:
    """What all connections share."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.held: list[Connection] = []

    def stats(self) -> dict[str, int]:
        return {name: self.counts[name] for name in ("open", "served", "connections")} | {
            "held": len(self.held)
        }

    def release(self) -> None:
        held, self.held = self.held, []
        for connection in held:
            connection.answer()


class Connection(asyncio.Protocol):
    """One request at a time."""

    transport: asyncio.Transport
    _replies: Replies

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._buffer = b""
        self._options: dict[str, int] = {}
        self._streamed = self._open = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self._provider.counts["connections"] += 1

    def connection_lost(self, exc: Exception | None) -> None:
        self._close()
        if self in self._provider.held:
            self._provider.held.remove(self)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        head, found, rest = self._buffer.partition(b"\r\n\r\n")
        if not found:
            return
        length = _LENGTH.search(head)
        size = int(length[1]) if length else 0
        if len(rest) >= size:
            self._buffer = rest[size:]
            self._request(head.split(b" ", 2)[1], rest[:size])

    def _request(self, path: bytes, body: bytes) -> None:
        if path == b"/stats":
            self._send(self._provider.stats())
        elif path == b"/release":
            self._provider.release()
            self._send({})
        elif path.endswith(b"/embeddings"):
            self._provider.counts["served"] += 1
            self.transport.write(embeddings(json.loads(body)))
        else:
            self._complete(path.decode().partition("?")[0], body)

    def _complete(self, path: str, body: bytes) -> None:
        self._replies, self._streamed = asked(path, json.loads(body))
        self._open = True
        self._provider.counts["open"] += 1
        self._options = {name.decode(): int(value) for name, value in _OPTION.findall(body)}
        if self._options.get("hold"):
            self._provider.held.append(self)
        elif wait_s := self._options.get("wait"):
            self._loop.call_later(wait_s, self.answer)
        else:
            self.answer()

    def answer(self) -> None:
        """Answer the request that waits."""
        if not self._open:
            return
        if not self._streamed:
            self._close(served=True)
            self.transport.write(self._replies.whole)
            return
        self.transport.write(STREAM_HEAD)
        pieces = self._replies.stream(self._options.get("chunks", 20))
        first = next(number for number, (_, word) in enumerate(pieces) if word)
        for piece, _ in pieces[:first]:
            self.transport.write(piece)
        self._piece(pieces, first, on_the_clock(pieces[first][0]))

    def _piece(self, pieces: list[tuple[bytes, bool]], number: int, data: bytes) -> None:
        if not self._open:
            return
        self.transport.write(data)
        number += 1
        while number < len(pieces) and not pieces[number][1]:
            self.transport.write(pieces[number][0])
            number += 1
        if number == len(pieces):
            self._close(served=True)
            self.transport.write(STREAM_END)
        elif pace_ms := self._options.get("pace"):
            self._loop.call_later(pace_ms / 1000, self._piece, pieces, number, pieces[number][0])
        else:
            self._loop.call_soon(self._piece, pieces, number, pieces[number][0])

    def _send(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def _close(self, *, served: bool = False) -> None:
        if self._open:
            self._open = False
            self._provider.counts["open"] -= 1
            self._provider.counts["served"] += served
