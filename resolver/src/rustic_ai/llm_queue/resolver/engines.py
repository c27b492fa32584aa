"""Which engine serves a process's calls: the only file that knows them all."""

from __future__ import annotations

from rustic_ai.llm_queue.tasks.connection.redis_url import is_memory_url
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from .client.engine import Engine
from .client.port import EnginePort
from .client.stand_in import current
from .testing.process_queue import memory_queue


def engine_for(settings: QueueSettings) -> EnginePort:
    """The process's engine for these settings, or the stand-in of a test."""
    engine = current()
    if engine is not None:
        return engine
    if is_memory_url(settings.redis_url):
        return memory_queue(settings.redis_url).engine
    return Engine.shared(settings)
