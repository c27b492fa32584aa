"""A simulator of six providers' HTTP interfaces: ``python -m support.providers.openai_stub``.

It speaks OpenAI, Azure OpenAI, Hugging Face, Anthropic, Gemini and Cohere v2, streamed and whole, plays
plans that a ``#tag`` in the prompt picks, keeps a record of every request with all its headers, and sees
when a client hangs up. It holds 5,000 and more calls open at once. Tests talk to it through
`support.providers.provider.ProviderStub`; the control interface is:

- ``POST /_control`` with ``{"plans": [...]}``, ``{"release": "tag" | null}`` or ``{"reset": true}``
- ``GET /_requests?tag=...`` all requests as JSON, ``GET /_stats`` the counters
"""

import argparse
import asyncio
import json
import logging
import resource
import socket
import struct
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import uvloop
from aiohttp import web

from support.providers.provider_answer import Answer, Event, make_answer
from support.providers.provider_book import ProviderBook
from support.providers.provider_plan import Plan, ProviderRequest, Step
from support.providers.wire import WIRES, Failure, Target, Wire
from support.providers.wire.messages import usual_message

_LONGEST_BODY_BYTES = 256 * 1024 * 1024


class Simulator:
    """Answers requests by the book."""

    def __init__(self) -> None:
        self.book = ProviderBook()

    def app(self) -> web.Application:
        """The application to serve."""
        app = web.Application(client_max_size=_LONGEST_BODY_BYTES)
        app.router.add_post("/_control", self.control)
        app.router.add_get("/_requests", self.requests)
        app.router.add_get("/_stats", self.stats)
        app.router.add_route("*", "/{path:.*}", self.provide)
        return app

    async def control(self, request: web.Request) -> web.Response:
        """Take plans, releases and resets."""
        orders: dict[str, Any] = await request.json()
        if orders.get("reset"):
            self.book.reset()
        for plan in orders.get("plans", []):
            self.book.add(Plan.model_validate(plan))
        if "release" in orders:
            self.book.release(orders["release"])
        return web.json_response({"plans": len(orders.get("plans", []))})

    async def requests(self, request: web.Request) -> web.Response:
        """Show the record."""
        tag = request.query.get("tag")
        shown = (one for one in self.book.requests if tag is None or one.tag == tag)
        body = "[" + ",".join(one.model_dump_json() for one in shown) + "]"
        return web.Response(text=body, content_type="application/json")

    async def stats(self, request: web.Request) -> web.Response:
        """Show the counters."""
        book = self.book
        return web.json_response({"open": book.open, "max_open": book.max_open, "served": book.served})

    async def provide(self, request: web.Request) -> web.StreamResponse:
        """Answer one provider request and keep its record."""
        received_at = time.monotonic()
        raw = await request.read()
        try:
            body = json.loads(raw) if raw else None
        except ValueError:
            body = None
        wire, target = _route(request.path, body)
        record = ProviderRequest(
            id=0,
            provider=wire.provider if wire else "unknown",
            method=request.method,
            path=request.path,
            query=request.query_string,
            headers=[(key, value) for key, value in request.headers.items()],
            body=body if body is not None else raw.decode(errors="replace"),
            model=target.model,
            stream=target.stream,
            prompt=wire.prompt(body or {}) if wire else "",
            received_at=received_at,
        )
        record.tag, step = self.book.step_for(record.prompt, record.model, record.provider)
        self.book.open_request(record)
        try:
            if wire is None:
                record.status, record.completed = 404, True
                return web.json_response({"error": {"message": f"no such path: {request.path}"}}, status=404)
            return await Exchange(self.book, request, record, wire, step).answer()
        except (asyncio.CancelledError, ConnectionError):
            # Closed by us as the plan says, or by the client.
            record.client_closed = record.fault not in ("refuse", "abort", "cut", "reset")
            raise
        finally:
            record.ended_at = time.monotonic()
            self.book.close_request(record)


class Exchange:
    """One request being answered."""

    def __init__(
        self, book: ProviderBook, request: web.Request, record: ProviderRequest, wire: Wire, step: Step
    ) -> None:
        self._book = book
        self._request = request
        self._record = record
        self._wire = wire
        self._step = step
        self._frame: Callable[[bytes], bytes] = bytes

    async def answer(self) -> web.StreamResponse:
        """Wait as planned, then fail or speak as planned."""
        step, record = self._step, self._record
        if step.hold:
            await self._book.held(record.tag or "")
        if step.delay_s:
            await asyncio.sleep(step.delay_s)
        if step.fault in ("refuse", "abort"):
            await self._hang_up()
        if step.raw is not None:
            return self._raw(step.raw)
        if step.status >= 400:
            return self._error()
        answer = make_answer(
            step,
            number=record.id,
            model=record.model,
            prompt=record.prompt,
            choices=self._wire.choices(record.body),
            created=int(time.time()),
            tier=record.body.get("service_tier"),
        )
        record.status = step.status
        return await (self._stream(answer) if record.stream else self._whole(answer))

    def _raw(self, body: str) -> web.Response:
        step, record = self._step, self._record
        kind = "text/event-stream" if record.stream and step.status < 400 else "application/json"
        record.status, record.completed, record.sent_bytes = step.status, True, len(body)
        headers = {"content-type": kind, **step.headers}
        return web.Response(body=body.encode(), status=step.status, headers=headers)

    def _error(self) -> web.Response:
        step, record = self._step, self._record
        message = step.message or usual_message(record.provider, step.status, step.code)
        body = self._wire.error(Failure(step.status, message, step.code, step.retry_after_s))
        headers = dict(step.headers)
        if step.retry_after_s is not None:
            headers["retry-after"] = f"{step.retry_after_s:g}"
        record.status, record.retry_after_s = step.status, step.retry_after_s
        record.fault, record.completed = f"status {step.status}", True
        return web.json_response(body, status=step.status, headers=headers)

    async def _whole(self, answer: Answer) -> web.StreamResponse:
        step, record = self._step, self._record
        data = json.dumps(self._wire.reply(answer, record.body, step.vectors), ensure_ascii=False).encode()
        if step.first_token_delay_s:
            await asyncio.sleep(step.first_token_delay_s)
        if step.fault in ("bad_json", "cut", "reset"):
            record.fault = step.fault
            response = web.StreamResponse(headers={"content-type": "application/json", **step.headers})
            if step.fault != "bad_json":
                response.content_length = len(data)
            await response.prepare(self._request)
            await response.write(data[: len(data) // 2])
            record.sent_bytes = len(data) // 2
            if step.fault != "bad_json":
                await self._hang_up()
            await response.write_eof()
            return response
        record.texts, record.sent_bytes = answer.texts, len(data)
        record.first_chunk_at = time.monotonic()
        record.completed = True
        return web.Response(body=data, content_type="application/json", headers=step.headers)

    async def _stream(self, answer: Answer) -> web.StreamResponse:
        step, record = self._step, self._record
        if not self._wire.wants_usage(record.body):
            answer = replace(answer, include_usage=False)
        framing = self._wire.framing(self._request.headers.get("accept", ""))
        self._frame = framing.write
        response = web.StreamResponse(headers={"cache-control": "no-cache", **step.headers})
        response.content_type, response.charset = framing.content_type, "utf-8"
        await response.prepare(self._request)
        if step.first_token_delay_s:
            await asyncio.sleep(step.first_token_delay_s)
        record.texts = [""] * len(answer.texts)
        told = 0
        for event in self._wire.events(answer):
            if step.fault and told == step.after_chunks and record.fault is None:
                record.fault = step.fault
                if await self._break(response, event):
                    return response
                if step.fault == "bad_json":
                    told += 1
                    continue
            if event.content:
                if told and step.chunk_delay_s:
                    await asyncio.sleep(step.chunk_delay_s)
                told += 1
            await self._send(response, event)
        record.completed = record.fault in (None, "stall", "no_reason")
        await response.write_eof()
        return response

    async def _send(self, response: web.StreamResponse, event: Event) -> None:
        record = self._record
        data = self._frame(event.data)
        await response.write(data)
        now = time.monotonic()
        record.sent_bytes += len(data)
        record.chunks += 1
        record.texts[event.choice] += event.text
        if event.content:
            record.chunk_at.append(now)
            record.first_chunk_at = record.first_chunk_at or now

    async def _break(self, response: web.StreamResponse, event: Event) -> bool:
        """Play the fault in front of this event; True if the stream is over."""
        step = self._step
        match step.fault:
            case "cut" | "reset":
                # At the next chunk's time: clients drop what they have not read when a connection ends.
                await asyncio.sleep(step.chunk_delay_s)
                await self._hang_up()
            case "no_finish":
                await response.write_eof()
                return True
            case "bad_json":
                whole = self._frame(event.data).rstrip(b"\n")
                await response.write(whole[: -max(2, len(whole) // 3)] + b"\n\n")
            case "error_event":
                message = step.message or "The server is overloaded"
                await response.write(self._frame(self._wire.error_event(message)))
                await response.write_eof()
                return True
            case "stall":
                started = time.monotonic()
                try:
                    await asyncio.sleep(step.stall_s)
                finally:
                    self._record.stalled_s = time.monotonic() - started
        return False

    async def _hang_up(self) -> None:
        """Close the connection in the middle of whatever it carries."""
        self._record.fault = self._step.fault
        transport = self._request.transport
        if transport is not None:
            if self._step.fault == "abort":
                # Without it the socket says goodbye first.
                transport.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
                transport.abort()
            elif self._step.fault == "reset":
                # What was written leaves with the loop's next turn; an abort would drop it.
                await asyncio.sleep(0.01)
                transport.abort()
            else:
                transport.close()
        raise ConnectionResetError("the plan says so")


def _route(path: str, body: object) -> tuple[Wire | None, Target]:
    if isinstance(body, dict):
        for wire in WIRES:
            if target := wire.target(path, body):
                return wire, target
    return None, Target("", stream=False)


async def _serve(host: str, port: int) -> None:
    # Without `handler_cancellation` a handler would not notice that its client is gone.
    runner = web.AppRunner(
        Simulator().app(), handler_cancellation=True, access_log=None, keepalive_timeout=600
    )
    await runner.setup()
    await web.TCPSite(runner, host, port, backlog=8192).start()
    print(f"listening on {port}", flush=True)
    await asyncio.Event().wait()


def main() -> None:
    """Serve until killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--host", default="127.0.0.1")
    arguments = parser.parse_args()
    logging.getLogger("aiohttp.server").setLevel(logging.CRITICAL)  # planned cuts are no errors
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    uvloop.run(_serve(arguments.host, arguments.port))


if __name__ == "__main__":
    main()
