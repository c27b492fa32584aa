"""A client's process, driven by lines of JSON: `python -m bench.clients.drive KIND`.

{"op": "calls", "number": 100, "in_flight": 10, "prompt": "…"}    whole answers, in a closed loop
{"op": "streams", "number": 10, "in_flight": 5, "prompt": "…"}    streamed ones
{"op": "begin", "number": 1000, "prompt": "…"}                    calls all at once; replies at once
{"op": "finish"}                                                  waits for them
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

from bench.clients.callers import (
    Caller,
    CeleryCaller,
    NothingCaller,
    ProxyCaller,
    QueueCaller,
    RouterCaller,
    SdkCaller,
    check,
    first_token_s,
)
from bench.clients.models import MODEL

KINDS: dict[str, Callable[[], Caller]] = {
    "sdk": SdkCaller,
    "router": RouterCaller,
    "queue": QueueCaller,
    "proxy": ProxyCaller,
    "celery": CeleryCaller,
    "nothing": NothingCaller,
}


class Driver:
    """Carries out what it is told, with one caller."""

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._begun: list[asyncio.Task[None]] = []

    async def calls(self, number: int, in_flight: int, prompt: str, model: str = MODEL) -> dict[str, Any]:
        """Whole answers; how long each took."""
        took: list[float] = []

        async def one() -> None:
            began = time.perf_counter()
            check(await self._caller.call(prompt, model))
            took.append(time.perf_counter() - began)

        return {"wall_s": await _closed_loop(one, number, in_flight), "took_s": took}

    async def streams(
        self, number: int, in_flight: int, prompt: str, chunks: int, model: str = MODEL
    ) -> dict[str, Any]:
        """Streamed answers; how long after the provider sent it the first word was here."""
        first: list[float] = []

        async def one() -> None:
            texts: list[str] = []
            async for text in self._caller.stream(f"{prompt} chunks={chunks}", model):
                if not texts:
                    first.append(first_token_s(text))
                texts.append(text)
            got = "".join(texts).count(" ")
            assert got == chunks, f"{got} words of {chunks} came"

        return {"wall_s": await _closed_loop(one, number, in_flight), "first_s": first}

    async def begin(self, number: int, prompt: str) -> dict[str, Any]:
        """Begin calls, all at once."""

        async def one() -> None:
            check(await self._caller.call(prompt))

        self._begun += [asyncio.create_task(one()) for _ in range(number)]
        return {}

    async def finish(self) -> dict[str, Any]:
        """Wait for the calls that were begun."""
        await asyncio.gather(*self._begun)
        self._begun.clear()
        return {}


async def _closed_loop(one: Callable[[], Awaitable[None]], number: int, in_flight: int) -> float:
    numbers = iter(range(number))

    async def worker() -> None:
        for _ in numbers:
            await one()

    began = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for _ in range(min(in_flight, number)):
            group.create_task(worker())
    return time.perf_counter() - began


async def _serve(kind: str) -> None:
    driver = Driver(KINDS[kind]())
    print(json.dumps({"ready": kind}), flush=True)
    while line := await asyncio.to_thread(sys.stdin.readline):
        order = json.loads(line)
        operation = getattr(driver, order.pop("op"))
        try:
            reply = await operation(**order)
        except Exception as error:
            causes = error.exceptions[:1] if isinstance(error, ExceptionGroup) else [error]
            reply = {"error": f"{type(causes[0]).__name__}: {causes[0]}"}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    _, most_files = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most_files, most_files))
    asyncio.run(_serve(sys.argv[1]))
