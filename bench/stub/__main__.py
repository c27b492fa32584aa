"""A provider that costs next to nothing: `python -m bench.stub PORT`.

It answers chat completions of OpenAI, DeepSeek, Anthropic, Gemini and Azure in their own formats at once,
whole or streamed. The prompt steers it: `chunks=200` words, `pace=20` ms between them, `wait=60` s before the
answer, `hold=1` until `POST /release`. `GET /stats` has how many calls are open.
"""

from __future__ import annotations

import asyncio
import resource
import sys

import uvloop

from bench.stub.connection import Connection, Provider


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
