from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

from .credentials import Target

_ASK = "get_secret_bool"
_SWITCH = "EXPERIMENTAL_OPENAI_BASE_LLM_HTTP_HANDLER"
#: Headers that OpenAI's SDK takes from these, and LiteLLM's own client does not.
_ONLY_THE_SDK_READS = ("OPENAI_ORGANIZATION", "OPENAI_ORG_ID", "OPENAI_PROJECT_ID")
_lean: ContextVar[bool] = ContextVar("lean", default=False)


def offer_lean_calls() -> None:
    """Let LiteLLM's switch past OpenAI's SDK be set for one call. Doing it twice is safe."""
    from litellm import main  # only after LiteLLM's environment stands

    ask: Any = getattr(main, _ASK)
    if hasattr(ask, "__wrapped__"):
        return

    @functools.wraps(ask)
    def answer(name: str, *args: Any, **options: Any) -> Any:
        return (name == _SWITCH and _lean.get()) or ask(name, *args, **options)

    setattr(main, _ASK, answer)


@contextmanager
def lean(target: Target, environment: Mapping[str, str] = os.environ) -> Iterator[None]:
    """Calls in here go past OpenAI's SDK where the answer is the same: a quarter of a call's CPU.

    For whole answers only: a stream is read differently there.
    """
    same = (
        target.provider == "openai"
        and not target.routed
        and "organization" not in target.options
        and not any(environment.get(name) for name in _ONLY_THE_SDK_READS)
    )
    token = _lean.set(same)
    try:
        yield
    finally:
        _lean.reset(token)
