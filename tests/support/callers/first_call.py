"""A fresh agent's process: its first call and its first stream, and what Python imports meanwhile.

Run as `python -m support.callers.first_call REDIS_URL`; prints one line of JSON.
"""

import asyncio
import json
import sys
import threading
import time
from importlib.machinery import ModuleSpec
from typing import Any


class ImportWatch:
    """Notes every module that is looked for, and the thread that does. For `sys.meta_path`."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        self.seen.append(f"{name} in {threading.current_thread().name}")
        return None


def main() -> None:
    began = time.process_time()
    from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest, UserMessage

    core_s = time.process_time() - began
    from rustic_ai.llm_queue.resolver import QueueLLMResolver

    resolver_s = time.process_time() - began - core_s
    watch = ImportWatch()
    sys.meta_path.insert(0, watch)
    llm = QueueLLMResolver("m", redis_url=sys.argv[1]).resolve("acme", "support", "helper")
    request = ChatCompletionRequest(messages=[UserMessage(content="?")])

    async def call() -> None:
        await llm.async_completion(request)

    async def stream() -> None:
        async with llm.async_stream(request) as chunks:
            await chunks.result()

    used = []
    for use in (call, stream):
        before = time.process_time()
        asyncio.run(use())
        used.append(time.process_time() - before)
    print(json.dumps({"core_s": core_s, "resolver_s": resolver_s, "first_call_s": used[0],
                      "first_stream_s": used[1], "imported": watch.seen}))  # fmt: skip


if __name__ == "__main__":
    main()
