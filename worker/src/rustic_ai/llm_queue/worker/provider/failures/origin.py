"""Whose failure an exception is that neither a provider's status nor the network explains."""

from __future__ import annotations

from types import TracebackType

#: They read providers' answers. What they raise about one that has come is the answer's fault.
_READERS = ("litellm.llms.", "litellm.litellm_core_utils.", "litellm.types.", "openai.", "pydantic", "json.")


def raised_by_a_reader(cause: BaseException) -> bool:
    """Whether an exception was raised where LiteLLM or OpenAI's SDK reads answers.

    Everything else, this worker's own code first of all, is the worker's failure until shown otherwise.
    """
    module = _module(cause.__traceback__)
    return module.startswith(_READERS) or f"{module}." in _READERS


def _module(traceback: TracebackType | None) -> str:
    """The module of the innermost frame."""
    if traceback is None:
        return ""
    while traceback.tb_next is not None:
        traceback = traceback.tb_next
    return str(traceback.tb_frame.f_globals.get("__name__", ""))
