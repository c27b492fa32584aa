from __future__ import annotations

#: Where LiteLLM keeps a provider's own word for an ending.
NATIVE_REASON = "native_finish_reason"
OPENAI_REASONS = frozenset({"stop", "length", "tool_calls", "content_filter", "function_call"})
#: Other providers' words, in small letters, that LiteLLM does not know or takes for a finished answer.
_MEANINGS = {
    "max_tokens": "length",
    "model_context_window_exceeded": "length",
    "model_length": "length",
    "prohibited_content": "content_filter",
    "recitation": "content_filter",
    "safety": "content_filter",
    "tool_call": "tool_calls",
    "tool_use": "tool_calls",
}
#: The provider gave up: what it has written so far is not the answer.
_FAILURES = frozenset(
    {"abort", "error", "insufficient_system_resource", "malformed_function_call", "network_error"}
)


def openai_reason(word: str) -> str:
    """OpenAI's word for a provider's, where its meaning is known here; else the provider's own."""
    return word if word in OPENAI_REASONS else _MEANINGS.get(word.lower(), word)


def is_failure(word: object) -> bool:
    """Whether a finish reason says that the provider failed."""
    return isinstance(word, str) and word.lower() in _FAILURES
