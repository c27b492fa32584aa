from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.call import Call, CompletionCall, EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind

from .failures.classify import PolicyViolation

#: What a job may ask of a model. Everything else LiteLLM takes (`api_base`, `extra_body`, `fallbacks`,
#: callbacks, `aws_*`, `vertex_credentials`, `metadata`, …) is the operator's and never taken from a job.
ALLOWED = frozenset(
    {
        "audio",
        "frequency_penalty",
        "function_call",
        "functions",
        "logit_bias",
        "logprobs",
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "mock_response",
        "modalities",
        "n",
        "parallel_tool_calls",
        "prediction",
        "presence_penalty",
        "prompt_cache_key",
        "reasoning_effort",
        "response_format",
        "safety_identifier",
        "seed",
        "service_tier",
        "stop",
        "store",
        "temperature",
        "thinking",
        "tool_choice",
        "tools",
        "top_k",
        "top_logprobs",
        "top_p",
        "user",
        "verbosity",
        "web_search_options",
    }
)

#: The same of a model that embeds. Our own side decides how vectors travel.
EMBEDDING_PARAMETERS = frozenset({"dimensions", "input_type", "truncate", "user"})

#: Tools that LiteLLM would carry out itself, with the worker's network and credentials.
_TOOLS_OF_LITELLM = frozenset({"mcp", "file_search", "code_interpreter", "litellm_code_execution"})


def check_parameters(call: Call) -> None:
    """Raise `PolicyViolation` naming the first parameter of a job that may not reach LiteLLM."""
    match call:
        case CompletionCall():
            checked_parameters(call.params)
        case EmbeddingCall():
            _check_names(call.params, EMBEDDING_PARAMETERS)


def checked_parameters(params: Mapping[str, Any]) -> dict[str, Any]:
    """The parameters of a job that may reach LiteLLM, without those that are None.

    Raises `PolicyViolation` naming the first that may not.
    """
    given = {name: value for name, value in params.items() if value is not None}
    _check_names(given, ALLOWED)
    if not given.get("messages"):
        raise _refused("messages is empty")
    if not isinstance(given.get("mock_response", ""), str):
        raise _refused("mock_response is not text")
    for tool in given.get("tools") or ():
        kind = tool.get("type") if isinstance(tool, Mapping) else None
        if not isinstance(kind, str) or kind in _TOOLS_OF_LITELLM:
            raise _refused(f"a tool of type {str(kind)[:100]!r} is not taken from a job")
    return given


def _check_names(params: Mapping[str, Any], allowed: Collection[str]) -> None:
    for name in params:
        if name not in allowed:
            raise _refused(f"the parameter {name[:100]!r} is not taken from a job")


def fitting_parameters(params: Mapping[str, Any], model: str) -> dict[str, Any]:
    """The parameters without what LiteLLM's `drop_params` lets through and the model would refuse.

    Claude models since 4.1 take a temperature or a `top_p`, not both. The resolver sends both by
    default, and a `top_p` of 1 changes nothing.
    """
    if "claude" in model.lower() and "temperature" in params and params.get("top_p") == 1:
        return {name: value for name, value in params.items() if name != "top_p"}
    return dict(params)


def own_copy(value: Any) -> Any:
    """A copy of JSON down to its texts and numbers, which are shared."""
    if isinstance(value, dict):
        return {name: own_copy(item) for name, item in value.items()}
    if isinstance(value, list):
        return [own_copy(item) for item in value]
    return value


def _refused(message: str) -> PolicyViolation:
    return PolicyViolation(ErrorKind.BAD_REQUEST, message)
