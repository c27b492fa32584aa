"""A server that a tenant points a worker at: it keeps everything it is sent."""

import json
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from support.servers.http_server import HttpServer


@dataclass(frozen=True)
class Received:
    """One request, whole."""

    method: str
    path: str
    headers: dict[str, str]
    body: str

    def __str__(self) -> str:
        return f"{self.method} {self.path}\n{self.headers}\n{self.body}"


@dataclass
class RogueServer:
    """Answers everything with an error, or with a redirect to `redirect_to`.

    Example::

        with RogueServer() as rogue:
            ...  # a tenant's job goes to rogue.url
            assert rogue.received == []
    """

    redirect_to: str | None = None
    redirect_status: int = 307
    received: list[Received] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._server = HttpServer(self._handler())
        self.port, self.url = self._server.port, self._server.url

    @property
    def everything(self) -> str:
        """All that was sent, as one text."""
        return "\n\n".join(map(str, self.received))

    def __enter__(self) -> Self:
        self._server.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._server.__exit__(*error)

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        rogue = self

        class Handler(BaseHTTPRequestHandler):
            def answer(self) -> None:
                length = int(self.headers.get("content-length") or 0)
                body = self.rfile.read(length).decode("utf-8", "replace")
                headers = {name.lower(): value for name, value in self.headers.items()}
                rogue.received.append(Received(self.command, self.path, headers, body))
                if rogue.redirect_to is not None:
                    self._send(rogue.redirect_status, {}, location=rogue.redirect_to)
                else:
                    self._send(400, {"error": {"message": "rogue", "type": "invalid_request_error"}})

            def _send(self, status: int, body: dict[str, Any], **headers: str) -> None:
                raw = json.dumps(body).encode()
                self.send_response(status)
                for name, value in {"content-type": "application/json", **headers}.items():
                    self.send_header(name, value)
                self.send_header("content-length", str(len(raw)))
                self.end_headers()
                self.wfile.write(raw)

            do_GET = do_POST = do_PUT = do_HEAD = do_OPTIONS = answer  # noqa: N815 - http.server's names

            def log_message(self, *_: Any) -> None:
                """Silent."""

        return Handler
