"""Which guild message a processor is at work on, for the LLM that it calls.

Rustic gives its processors' dependencies neither the message nor a current span.
"""

from __future__ import annotations

import threading
from collections import defaultdict
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import ReferenceType, WeakSet, ref

from rustic_ai.core.guild.agent import Agent, ProcessContext

from rustic_ai.llm_queue.tasks.owner import Owner

_MAKE_CONTEXT = "_make_process_context"
_FOLLOWED = "__llm_queue_followed__"

#: Weak: a processor's context ends with it, and what comes after is no part of it.
_current: ContextVar[ReferenceType[ProcessContext[Any]] | None] = ContextVar("process_context", default=None)
_by_agent: defaultdict[tuple[str, str], WeakSet[ProcessContext[Any]]] = defaultdict(WeakSet)
_lock = threading.Lock()


def follow_messages() -> None:
    """Note the contexts of all processors of this process from now on. Doing it twice is safe."""
    make = getattr(Agent, _MAKE_CONTEXT, None)
    if make is None or hasattr(make, _FOLLOWED):
        return

    @wraps(make)
    def make_and_note(agent: Any, *args: Any, **kwargs: Any) -> Any:
        context = make(agent, *args, **kwargs)
        _current.set(ref(context))
        with _lock:
            _by_agent[agent.guild_id, agent.id].add(context)
        return context

    setattr(make_and_note, _FOLLOWED, True)
    setattr(Agent, _MAKE_CONTEXT, make_and_note)


def current_owner() -> Owner | None:
    """The agent whose processor calls; None outside of one."""
    noted = _current.get()
    context = noted() if noted is not None else None
    if context is None:
        return None
    agent = context.agent
    try:
        org = agent.get_organization()
    except ValueError:
        # An engine that names no organisation.
        return None
    return Owner(org=org, guild=agent.guild_id, agent=agent.id)


def context_of(owner: Owner) -> ProcessContext[Any] | None:
    """The context of the processor that calls for this owner; None outside of one, or when in doubt."""
    noted = _current.get()
    context = noted() if noted is not None else None
    if context is not None:
        return context
    # A processor's own threads, and those Rustic makes for a running loop, do not inherit the variable.
    with _lock:
        contexts = list(_by_agent.get((owner.guild, owner.agent), ()))
    return contexts[0] if len(contexts) == 1 else None
