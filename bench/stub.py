"""A provider that costs next to nothing: `python -m bench.stub PORT`.

It answers OpenAI chat completions at once, whole or streamed. The prompt steers it: `chunks=200` words,
`pace=20` ms between them, `hold=1` until `POST /release`. `GET /stats` tells how many calls are open.
"""

import asyncio
import json
import re
import resource
import sys
import time
from collections import Counter
from typing import Any

import uvloop

ANSWER = "The capital of Japan is Tokyo, and an answer is rarely longer than this one."
_LENGTH = re.compile(rb"(?i)content-length: *(\d+)")
_STREAM = re.compile(rb'"stream": ?true')
_OPTION = re.compile(rb"\b(chunks|pace|hold)=(\d+)")


class Provider:
    """What all connections share."""

    def __init__(self) -> None:
        self.counts = Counter[str]()
        self.held: list[Connection] = []

    def stats(self) -> dict[str, int]:
        return {"open": self.counts["open"], "served": self.counts["served"], "held": len(self.held)}

    def release(self) -> None:
        held, self.held = self.held, []
        for connection in held:
            connection.answer()


class Connection(asyncio.Protocol):
    """One client's connection; one request at a time."""

    transport: asyncio.Transport

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._buffer = b""
        self._options: dict[str, int] = {}
        self._streamed = self._open = False
        self._loop = asyncio.get_running_loop()

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

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
        else:
            self._open = True
            self._provider.counts["open"] += 1
            self._streamed = bool(_STREAM.search(body))
            self._options = {name.decode(): int(value) for name, value in _OPTION.findall(body)}
            if self._options.get("hold"):
                self._provider.held.append(self)
            else:
                self.answer()

    def answer(self) -> None:
        """Answer the request that waits."""
        if not self._streamed:
            message = {"role": "assistant", "content": ANSWER}
            choice = {"index": 0, "message": message, "finish_reason": "stop"}
            self._close(served=True)
            self._send(_head("chat.completion") | {"choices": [choice], "usage": _usage(20)})
            return
        self.transport.write(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
        )
        self._event(_chunk({"role": "assistant", "content": ""}))
        self._word(0)

    def _word(self, number: int) -> None:
        words = self._options.get("chunks", 20)
        if not self._open:
            return
        if number == words:
            self._event(_chunk({}, "stop"))
            self._event(_head("chat.completion.chunk") | {"choices": [], "usage": _usage(words)})
            self._close(served=True)
            self.transport.write(_framed(b"data: [DONE]\n\n") + b"0\r\n\r\n")
            return
        # The first says when it was sent, on the clock all processes share.
        text = f"word{number % 10} " if number else f"{time.monotonic_ns()} "
        self._event(_chunk({"content": text}))
        if pace := self._options.get("pace"):
            self._loop.call_later(pace / 1000, self._word, number + 1)
        else:
            self._loop.call_soon(self._word, number + 1)

    def _event(self, chunk: dict[str, Any]) -> None:
        self.transport.write(_framed(b"data: " + json.dumps(chunk).encode() + b"\n\n"))

    def _send(self, value: dict[str, Any]) -> None:
        body = json.dumps(value).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        self.transport.write(head.encode() + body)

    def _close(self, *, served: bool = False) -> None:
        if self._open:
            self._open = False
            self._provider.counts["open"] -= 1
            self._provider.counts["served"] += served


def _head(kind: str) -> dict[str, Any]:
    return {"id": "chatcmpl-1", "object": kind, "created": 1_700_000_000, "model": "gpt-4o-mini"}


def _usage(completion: int) -> dict[str, int]:
    return {"prompt_tokens": 20, "completion_tokens": completion, "total_tokens": 20 + completion}


def _chunk(delta: dict[str, str], reason: str | None = None) -> dict[str, Any]:
    choice = {"index": 0, "delta": delta, "finish_reason": reason}
    return _head("chat.completion.chunk") | {"choices": [choice]}


def _framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


async def _serve(port: int) -> None:
    provider = Provider()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: Connection(provider), "127.0.0.1", port, backlog=8192)
    print("ready.", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    uvloop.run(_serve(int(sys.argv[1])))
