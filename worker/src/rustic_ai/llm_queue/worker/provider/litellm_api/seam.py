"""The one place that binds what LiteLLM, and the HTTP clients below it, do not document.

Every other file of this package takes such names from here. A release that renamed or removed one of
them is refused when this file is imported, with all that is missing: found in the middle of a call, it
would look like a failure of the provider, and be tried, and billed, again.
"""

from __future__ import annotations

import importlib
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any


class UnsuitableLiteLLM(ImportError):
    """This release of LiteLLM lacks names that this worker needs; the message lists them all."""


class Replaceable:
    """A name of another package that a correction may take the place of."""

    def __init__(self, owner: Any, name: str) -> None:
        self._owner, self._name = owner, name
        #: What stood there when this file was imported.
        self.original: Any = getattr(owner, name)
        # As it stands, where reading it would bind it.
        self._stored = inspect.getattr_static(owner, name)

    def replace(self, value: Any) -> None:
        """Put `value` there. Doing it twice is safe."""
        setattr(self._owner, self._name, value)

    @contextmanager
    def undone(self) -> Iterator[None]:
        """LiteLLM as it is, for a while: how a test finds out whether a correction is still needed."""
        replaced = inspect.getattr_static(self._owner, self._name)
        setattr(self._owner, self._name, self._stored)
        try:
            yield
        finally:
            setattr(self._owner, self._name, replaced)


class _Names:
    def __init__(self) -> None:
        self._missing: list[str] = []

    def value(self, path: str) -> Any:
        """What `package.module:Class.attribute` names."""
        owner, name = self._owner(path)
        return self._get(owner, name, path)

    def replaceable(self, path: str) -> Any:
        """The same, to be replaced."""
        owner, name = self._owner(path)
        self._get(owner, name, path)
        return Replaceable(owner, name) if hasattr(owner, name) else None

    def instances_have(self, path: str, *names: str) -> Any:
        """A class whose `__init__` sets the attributes `names`, which the class itself does not show."""
        cls = self.value(path)
        code = getattr(getattr(cls, "__init__", None), "__code__", None)
        for name in names:
            if not hasattr(cls, name) and name not in getattr(code, "co_names", ()):
                self._missing.append(f"{path}().{name}")
        return cls

    def close(self) -> None:
        """Raises `UnsuitableLiteLLM` naming all that was not found."""
        if self._missing:
            raise UnsuitableLiteLLM(
                f"this worker does not fit the installed LiteLLM: missing are {', '.join(self._missing)} "
                '(CONTRIBUTING.md, "When LiteLLM moves")'
            )

    def _owner(self, path: str) -> tuple[Any, str]:
        module, _, attributes = path.partition(":")
        *owners, name = attributes.split(".")
        try:
            owner: Any = importlib.import_module(module)
        except ImportError:
            return None, name
        for attribute in owners:
            owner = getattr(owner, attribute, None)
        return owner, name

    def _get(self, owner: Any, name: str, path: str) -> Any:
        if not hasattr(owner, name):
            self._missing.append(path)
        return getattr(owner, name, None)


_names = _Names()
_value, _replaceable = _names.value, _names.replaceable

# Errors
exception_type: Callable[..., Exception] = _value(
    "litellm.litellm_core_utils.exception_mapping_utils:exception_type"
)
raise_masked_async_error: Callable[..., Any] = _value(
    "litellm.llms.custom_httpx.http_handler:_raise_masked_async_error"
)
#: `BaseLLMHTTPHandler._handle_error`, which makes a provider's error out of an HTTP client's.
provider_error: Callable[..., Exception] = _value("litellm.main:base_llm_http_handler._handle_error")
ToolLoopMaxRoundsExceeded: Any = _value("litellm.tool_loop:ToolLoopMaxRoundsExceeded")
RouterRateLimitError: Any = _value("litellm.types.router:RouterRateLimitError")
RouterRateLimitErrorBasic: Any = _value("litellm.types.router:RouterRateLimitErrorBasic")

# A request in OpenAI's form
validate_and_fix_openai_messages: Callable[..., Any] = _value(
    "litellm.utils:validate_and_fix_openai_messages"
)
validate_and_fix_openai_tools: Callable[..., Any] = _value("litellm.utils:validate_and_fix_openai_tools")
validate_chat_completion_tool_choice: Callable[..., Any] = _value(
    "litellm.utils:validate_chat_completion_tool_choice"
)
validate_openai_optional_params: Callable[..., Any] = _value("litellm.utils:validate_openai_optional_params")
get_optional_params: Callable[..., Any] = _value("litellm.utils:get_optional_params")
get_optional_params_embeddings: Callable[..., dict[str, Any]] = _value(
    "litellm.utils:get_optional_params_embeddings"
)
get_provider_chat_config: Callable[..., Any] = _value(
    "litellm.utils:ProviderConfigManager.get_provider_chat_config"
)
drop_anthropic_only_tool_keys: Callable[..., Any] = _value("litellm.main:_drop_anthropic_only_tool_keys")
resolve_openai_api_base: Callable[..., Any] = _value("litellm.main:_resolve_openai_api_base")
responses_api_bridge_check: Callable[..., Any] = _value("litellm.main:responses_api_bridge_check")
get_async_httpx_client: Callable[..., Any] = _value(
    "litellm.llms.custom_httpx.http_handler:get_async_httpx_client"
)
is_claude_tool_target: Callable[..., bool] = _value("litellm.main:is_claude_tool_target")
#: In here a call is part of another one: nothing is reported of it.
internal_sub_call: Callable[..., Any] = _value("litellm._internal_context:internal_sub_call")
get_litellm_params: Callable[..., dict[str, Any]] = _value("litellm.main:get_litellm_params")
#: What `completion()` hands to a provider's handler, and the handlers.
CompletionDispatchContext: Any = _value("litellm.types.completion:CompletionDispatchContext")
HANDLERS: Mapping[str, Callable[[Any], Any]] = {
    "anthropic": _value("litellm.main:_complete_anthropic"),
    "azure": _value("litellm.main:_complete_azure"),
    "gemini": _value("litellm.main:_complete_vertex_ai_beta"),
}
#: What OpenAI's SDK, and LiteLLM's handlers of Azure and OpenAI around it, make of a failure.
AzureOpenAIError: Callable[..., Exception] = _value("litellm.llms.azure.common_utils:AzureOpenAIError")
OpenAIError: Callable[..., Exception] = _value("litellm.llms.openai.common_utils:OpenAIError")
openai_status_error: Callable[[Any, Any], Exception] = _value(
    "openai:AsyncOpenAI._make_status_error_from_response"
)
is_output_token_limit_error: Callable[[Any], bool] = _value(
    "litellm.llms.openai.common_utils:is_output_token_limit_error"
)
build_output_token_limit_response: Callable[..., Any] = _value(
    "litellm.llms.openai.common_utils:build_output_token_limit_response"
)
#: Of httpx's client: the transport below its redirects, cookies and logins.
transport_for_url: Callable[..., Any] = _value("httpx:AsyncClient._transport_for_url")

# Answers and streams
ModelResponse: Any = _value("litellm.types.utils:ModelResponse")
ModelResponseStream: Any = _value("litellm.types.utils:ModelResponseStream")
GenericStreamingChunk: Any = _value("litellm.types.utils:GenericStreamingChunk")
Usage: Any = _value("litellm.types.utils:Usage")
convert_to_model_response_object: Callable[..., Any] = _value(
    "litellm.litellm_core_utils.llm_response_utils.convert_dict_to_response:convert_to_model_response_object"
)
map_finish_reason: Callable[[str], Any] = _value("litellm.litellm_core_utils.core_helpers:map_finish_reason")
#: A stream, whose `completion_stream` is the provider's own.
CustomStreamWrapper: Any = _names.instances_have(
    "litellm:CustomStreamWrapper",
    "completion_stream",
    "fetch_stream",
    "chunk_creator",
    "custom_llm_provider",
    "aclose",
)
BaseModelResponseIterator: Any = _names.instances_have(
    "litellm.llms.base_llm.base_model_iterator:BaseModelResponseIterator",
    *("chunk_parser", "http_response", "streaming_response"),
)
#: The streams that read a provider's own events and keep half an event back, and where each has its answer.
ANTHROPIC_STREAM: Any = _names.instances_have(
    "litellm.llms.anthropic.chat.handler:ModelResponseIterator",
    *("_json_buffer", "_response", "chunk_parser", "streaming_response"),
)
GEMINI_STREAM: Any = _names.instances_have(
    "litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini:ModelResponseIterator",
    *("_json_buffer", "_output_cap", "chunk_parser", "response", "streaming_response"),
)
EVENT_STREAMS: Mapping[Any, str] = {ANTHROPIC_STREAM: "_response", GEMINI_STREAM: "response"}
CohereError: Callable[..., Exception] = _value("litellm.llms.cohere.common_utils:CohereError")

# Providers, deployments and prices
JSONProviderRegistry: Any = _value("litellm.llms.openai_like.json_loader:JSONProviderRegistry")
_value("litellm:aembedding")
#: What LiteLLM's router adds to each deployment's parameters, where an operator says nothing of it.
DEPLOYMENT_FLAGS: frozenset[str] = frozenset(
    name
    for name, field in _value("litellm.types.router:LiteLLM_Params.model_fields").items()
    if field.default is False
)
_value("litellm.router:Router.select")
_value("litellm.router:Router.deployment_callback_on_failure")
_value("litellm.router:Router.deployment_callback_on_success")
_value("litellm:logging_callback_manager.add_litellm_async_success_callback")
_value("litellm:cost_per_token")
_value("litellm:get_model_info")
_value("litellm:model_cost")

# What corrections replace
POST_WITH_FEWER_PARAMETERS: Replaceable = _replaceable(
    "litellm.llms.openai.openai:drop_params_from_unprocessable_entity_error"
)
HANDLE_STRING_CHUNK: Replaceable = _replaceable(
    "litellm.llms.base_llm.base_model_iterator:BaseModelResponseIterator._handle_string_chunk"
)
GEMINI_CHOICE: Replaceable = _replaceable(
    "litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini:"
    "VertexGeminiConfig._create_streaming_choice"
)
COHERE_STREAM: Replaceable = _replaceable(
    "litellm.llms.cohere.chat.v2_transformation:CohereV2ChatConfig.get_model_response_iterator"
)
#: Below all of an aiohttp session's methods.
AIOHTTP_REQUEST: Replaceable = _replaceable("aiohttp:ClientSession._request")
CONNECTION_LIMITS: Mapping[str, Replaceable] = {
    name: _replaceable(f"litellm.llms.custom_httpx.http_handler:{name}")
    for name in ("AIOHTTP_CONNECTOR_LIMIT", "AIOHTTP_CONNECTOR_LIMIT_PER_HOST")
}
#: Reports that only callbacks, such as a router's, and LiteLLM's proxy read.
SUCCESS_REPORTS: tuple[Replaceable, ...] = (
    _replaceable("litellm.utils:dispatch_success_logging"),
    _replaceable("litellm.utils:update_response_metadata"),
)
#: LiteLLM's settings, by name.
SETTINGS: Mapping[str, Replaceable] = {
    name: _replaceable(f"litellm:{name}")
    for name in (
        "DEFAULT_MAX_RETRIES",
        "_async_failure_callback",
        "_async_input_callback",
        "_async_success_callback",
        "cache",
        "callbacks",
        "disable_hf_tokenizer_download",
        "drop_params",
        "failure_callback",
        "input_callback",
        "log_raw_request_response",
        "model_fallbacks",
        "num_retries",
        "redact_messages_in_exceptions",
        "service_callback",
        "success_callback",
        "suppress_debug_info",
        "user_url_allowed_hosts",
        "user_url_validation",
    )
}
# Read from the environment, whose variables nobody checks.
_value("litellm.constants:REPEATED_STREAMING_CHUNK_LIMIT")


def default_encoding() -> Any:
    """LiteLLM's tokenizer, OpenAI's. Half a second the first time, which only texts near a limit take."""
    return _value("litellm.litellm_core_utils.default_encoding:encoding")


_names.close()
