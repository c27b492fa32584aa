"""Test a guild with `QueueLLMResolver` in memory: no Redis, no worker, no provider.

    from rustic_ai.llm_queue.resolver.testing import InMemoryQueue

    def test_my_guild():
        with InMemoryQueue() as queue:
            queue.answer("Paris").fail(ErrorKind.RATE_LIMIT, "slow down")
            guild = GuildBuilder.from_yaml_file("guild.yaml").launch("my-org")
            ...
            assert queue.calls[0].params["messages"][-1]["content"] == "Capital of France?"

The guild's specification stays as it is. What is in memory is the queue alone: properties, request
and response take the way they take in production. With `LLM_QUEUE_REDIS_URL=memory://`, or the
property `redis_url: memory://`, calls go to the process's own queue, `memory_queue()`, without a
`with`; `memory://?otherwise=Hm.` answers every call that no script answers.
"""

from .in_memory_queue import InMemoryQueue, Step
from .process_queue import memory_queue

__all__ = ["InMemoryQueue", "Step", "memory_queue"]
