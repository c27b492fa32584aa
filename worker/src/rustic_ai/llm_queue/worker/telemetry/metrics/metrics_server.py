from __future__ import annotations

import asyncio
import errno
import logging
import socket
from threading import Thread
from wsgiref.simple_server import WSGIServer

from prometheus_client import CollectorRegistry, start_http_server

logger = logging.getLogger(__name__)

_AGAIN_S = 5.0
_LOOK_S = 5.0


class MetricsServer:
    """Serves the metrics to Prometheus, from a thread of its own: a `Service`.

    Where `host` is a name that stands for many machines, as a service's name does among containers, it
    listens at the one of its addresses that is this machine's own.

    A port that is taken, as by a worker that still drains, is no reason not to work: it says so, and
    tries again until it has it.
    """

    def __init__(self, registry: CollectorRegistry, *, host: str, port: int) -> None:
        self._registry, self._host, self._port = registry, host, port

    async def run(self) -> None:
        """Serve until cancelled."""
        server, thread = await self._start()
        logger.info("Metrics are at http://%s:%d/metrics", self._host, self._port)
        try:
            while thread.is_alive():  # noqa: ASYNC110 - a thread sets no event when it dies
                await asyncio.sleep(_LOOK_S)
            raise RuntimeError("the thread that serves the metrics has ended")
        finally:
            # It waits for the thread's next look around.
            await asyncio.to_thread(_stop, server)

    async def _start(self) -> tuple[WSGIServer, Thread]:
        warned = False
        while True:
            try:
                served = await asyncio.to_thread(self._listen)
            except OSError as error:
                if not warned:
                    logger.error(
                        "No metrics yet: %s port %d cannot be had (%s); give this worker a "
                        "LLM_QUEUE_METRICS_PORT of its own",
                        self._host,
                        self._port,
                        error.strerror,
                    )
                warned = True
                await asyncio.sleep(_AGAIN_S)
            else:
                return served

    def _listen(self) -> tuple[WSGIServer, Thread]:
        elsewhere: OSError | None = None
        for *_, address in socket.getaddrinfo(self._host, self._port, type=socket.SOCK_STREAM):
            try:
                return start_http_server(self._port, str(address[0]), self._registry)
            except OSError as error:
                if error.errno != errno.EADDRNOTAVAIL:
                    raise
                elsewhere = error
        raise elsewhere or OSError(errno.EADDRNOTAVAIL, "the name has no address")


def _stop(server: WSGIServer) -> None:
    server.shutdown()
    server.server_close()
