from __future__ import annotations

from .port import EnginePort

_engine: EnginePort | None = None


def current() -> EnginePort | None:
    """The engine that serves every call of this process during a test, None outside of one."""
    return _engine


def stand_in(engine: EnginePort | None) -> EnginePort | None:
    """Let `engine` serve every call of this process. Returns the one before it."""
    global _engine
    previous, _engine = _engine, engine
    return previous
