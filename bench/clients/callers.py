"""How a client of each contender makes a call; runs in the driver's process."""

from __future__ import annotations

import asyncio
import hashlib
import json
import os
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from bench.clients.models import MODEL
from bench.stub import ANSWER

if TYPE_CHECKING:
    from rustic_ai.llm_queue.resolver import QueueLLM

#: Of the proxy that is started for the run: it refuses to serve without one, or with a simple one.
PROXY_KEY = f"sk-{hashlib.sha256(b'bench').hexdigest()}"
_MOST_THREADS = 128
_LONGEST_WAIT_S = 600.0


class Caller(Protocol):
    """A client."""

    async def call(self, prompt: str, model: str = MODEL) -> str:
        """The whole answer."""

    def stream(self, prompt: str, model: str = MODEL) -> AsyncIterator[str]:
        """The answer's texts as they come."""


class SdkCaller:
    """LiteLLM in the caller's own process."""

    def __init__(self) -> None:
        import litellm

        litellm.suppress_debug_info = True
        self._complete: Callable[..., Awaitable[Any]] = litellm.acompletion

    async def call(self, prompt: str, model: str = MODEL) -> str:
        response = await self._complete(**self._arguments(prompt, model))
        return str(response.choices[0].message.content)

    async def stream(self, prompt: str, model: str = MODEL) -> AsyncIterator[str]:
        options = {"include_usage": True}
        arguments = self._arguments(prompt, model)
        chunks = await self._complete(**arguments, stream=True, stream_options=options)
        async for chunk in chunks:
            if chunk.choices and (text := chunk.choices[0].delta.content):
                yield text

    @staticmethod
    def _arguments(prompt: str, model: str) -> dict[str, Any]:
        return {"model": model, "messages": [{"role": "user", "content": prompt}], "max_retries": 0}


class RouterCaller(SdkCaller):
    """LiteLLM's router over a config file, in the caller's own process."""

    def __init__(self) -> None:
        super().__init__()
        import yaml
        from litellm import Router

        config = yaml.safe_load(Path(os.environ["BENCH_LITELLM_CONFIG"]).read_text())
        self._complete = Router(**config, num_retries=0).acompletion


class QueueCaller:
    """An agent's `QueueLLM`, one for each model."""

    def __init__(self) -> None:
        self._llms: dict[str, QueueLLM] = {}

    async def call(self, prompt: str, model: str = MODEL) -> str:
        response = await self._llm(model).async_completion(_ask(prompt))
        return str(response.choices[0].message.content)

    async def stream(self, prompt: str, model: str = MODEL) -> AsyncIterator[str]:
        async with self._llm(model).async_stream(_ask(prompt)) as stream:
            async for chunk in stream:
                if chunk.choices and (text := chunk.choices[0].delta.content):
                    yield text

    def _llm(self, model: str) -> QueueLLM:
        if model not in self._llms:
            from rustic_ai.llm_queue.resolver import QueueLLMResolver

            resolver = QueueLLMResolver(model=model, timeout=_LONGEST_WAIT_S)
            self._llms[model] = resolver.resolve("bench", "bench", "bench")
        return self._llms[model]


class ProxyCaller:
    """A lean HTTP client of the LiteLLM proxy."""

    def __init__(self) -> None:
        import aiohttp

        self._url = f"{os.environ['BENCH_PROXY_URL']}/v1/chat/completions"
        # The proxy closes what is idle for 5 s, as between two of its turns.
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=2)
        timeout = aiohttp.ClientTimeout(total=_LONGEST_WAIT_S)
        headers = {"authorization": f"Bearer {PROXY_KEY}"}
        self._session = aiohttp.ClientSession(connector=connector, timeout=timeout, headers=headers)

    async def call(self, prompt: str, model: str = MODEL) -> str:
        async with self._session.post(self._url, json=self._body(prompt)) as response:
            response.raise_for_status()
            answer = await response.json()
        return str(answer["choices"][0]["message"]["content"])

    async def stream(self, prompt: str, model: str = MODEL) -> AsyncIterator[str]:
        async with self._session.post(self._url, json=self._body(prompt) | {"stream": True}) as response:
            response.raise_for_status()
            async for line in response.content:
                if not line.startswith(b"data: {"):
                    continue
                choices = json.loads(line[6:])["choices"]
                if choices and (text := choices[0]["delta"].get("content")):
                    yield text

    @staticmethod
    def _body(prompt: str) -> dict[str, Any]:
        return {"model": "bench", "messages": [{"role": "user", "content": prompt}]}


class CeleryCaller:
    """`delay().get()` in a thread a call, as it is done where there is no asyncio."""

    task = "bench.complete"

    def __init__(self) -> None:
        from celery import Celery

        url = os.environ["BENCH_REDIS_URL"]
        self._app = Celery("plain", broker=url, backend=url)
        self._threads = ThreadPoolExecutor(_MOST_THREADS)

    async def call(self, prompt: str, model: str = MODEL) -> str:
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._wait, prompt)

    def stream(self, prompt: str, model: str = MODEL) -> AsyncIterator[str]:
        raise NotImplementedError("plain Celery does not stream")

    def _wait(self, prompt: str) -> str:
        return str(self._app.send_task(self.task, args=(prompt,)).get(timeout=_LONGEST_WAIT_S))


class NothingCaller(CeleryCaller):
    """A task that does nothing."""

    task = "bench.nothing"

    async def call(self, prompt: str, model: str = MODEL) -> str:
        await super().call(prompt, model)
        return ANSWER


def _ask(prompt: str) -> Any:
    from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

    return ChatCompletionRequest(messages=[UserMessage(content=prompt)])


def check(answer: str) -> None:
    """Raises `AssertionError` on an answer that is not the provider's."""
    assert answer == ANSWER, f"not the provider's answer: {answer!r}"


def first_token_s(text: str) -> float:
    """Seconds between the provider's sending the first word and now."""
    return (time.monotonic_ns() - int(text.split(" ", 1)[0])) / 1e9
