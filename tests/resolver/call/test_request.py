"""What reaches the worker of a prompt and the properties around it."""

import copy
from enum import Enum
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ArrayOfContentParts,
    AssistantMessage,
    ChatCompletionMessageToolCall,
    ChatCompletionNamedToolChoice,
    ChatCompletionRequest,
    ChatCompletionTool,
    ChatCompletionToolChoiceOption,
    FileContentPart,
    FileUrl,
    Function,
    FunctionCall,
    FunctionMessage,
    FunctionObject,
    FunctionParameters,
    ImageContentPart,
    ImageDetail,
    ImageUrl,
    Stop,
    SystemMessage,
    TextContentPart,
    ToolMessage,
    ToolType,
    UserMessage,
    WebSearchOptions,
)
from rustic_ai.core.guild.agent_ext.depends.llm.tools_manager import Toolset, ToolsManager, ToolSpec

from rustic_ai.llm_queue.resolver import Properties, QueueChatCompletionRequest
from rustic_ai.llm_queue.resolver.call.request import build_call, timeout_s
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.settings import QueueSettings

HI = [UserMessage(content="Hi")]


class Place(BaseModel):
    city: str
    country: str | None = None


class PlaceTools(Toolset):
    @classmethod
    def toolsmanager(cls) -> ToolsManager:
        return ToolsManager([ToolSpec(name="find", description="Finds a place.", parameter_class=Place)])


class ForeignModels(str, Enum):  # noqa: UP042  upstream's LLMAgent has such a one
    small = "gpt-5-nano"


def call_of(
    prompt: ChatCompletionRequest | None = None, model: Any = None, /, **properties: Any
) -> CompletionCall:
    """The call as the worker reads it: through JSON and back."""
    given = Properties.load({"model": "gpt-4", **properties})
    call = build_call(given, prompt or ChatCompletionRequest(messages=HI), model, settings=QueueSettings())
    return CompletionCall.model_validate_json(call.model_dump_json(exclude_defaults=True))


def params_of(**fields: Any) -> dict[str, Any]:
    return call_of(ChatCompletionRequest(**{"messages": HI, **fields})).params


def tool(name: str, **parameters: Any) -> ChatCompletionTool:
    body = FunctionObject(name=name, parameters=FunctionParameters(**parameters))
    return ChatCompletionTool(type=ToolType.function, function=body)


def test_the_tables_defaults_are_sent() -> None:
    assert call_of().params == {
        "temperature": 0.7,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "messages": [{"role": "user", "content": "Hi"}],
    }


def test_a_null_property_is_not_sent() -> None:
    nothing = dict.fromkeys(["temperature", "top_p", "frequency_penalty", "presence_penalty", "max_tokens"])
    assert set(call_of(**nothing).params) == {"messages"}


def test_the_request_goes_before_the_property_and_none_does_not() -> None:
    properties = {"temperature": 0.1, "max_tokens": 10, "top_p": 0.2}
    prompt = ChatCompletionRequest(messages=HI, temperature=0.9, max_tokens=None)
    params = call_of(prompt, **properties).params
    assert (params["temperature"], params["max_tokens"], params["top_p"]) == (0.9, 10, 0.2)


def test_a_request_that_came_as_a_message_counts_only_what_was_set() -> None:
    sent = ChatCompletionRequest(messages=HI)
    received = ChatCompletionRequest.model_validate_json(sent.model_dump_json())
    assert call_of(received, max_tokens=10) == call_of(sent, max_tokens=10)


def test_max_completion_tokens_takes_the_place_of_the_propertys_max_tokens() -> None:
    params = call_of(ChatCompletionRequest(messages=HI, max_completion_tokens=5), max_tokens=10).params
    assert params["max_completion_tokens"] == 5
    assert "max_tokens" not in params


def test_the_requests_service_tier_goes_before_the_propertys() -> None:
    prompt = QueueChatCompletionRequest(messages=HI, service_tier="priority")
    assert call_of(prompt, service_tier="flex").params["service_tier"] == "priority"
    assert call_of(service_tier="flex").params["service_tier"] == "flex"
    assert "service_tier" not in call_of().params
    with pytest.raises(ValidationError, match="service_tier"):
        QueueChatCompletionRequest(messages=HI, service_tier="turbo")


def test_plain_parameters_pass_as_they_are() -> None:
    fields: dict[str, Any] = {
        "n": 3,
        "seed": -(2**63),
        "user": "user-1",
        "logit_bias": {"50256": -100},
        "logprobs": True,
        "top_logprobs": 5,
        "parallel_tool_calls": False,
        "reasoning_effort": "high",
        "mock_response": "Hello",
    }
    params = params_of(**fields)
    assert {name: params[name] for name in fields} == fields


def test_parameters_of_a_shape_become_json() -> None:
    assert params_of(stop=Stop(["a", "b"]))["stop"] == ["a", "b"]
    assert params_of(stop="end")["stop"] == "end"
    assert params_of(tool_choice=ChatCompletionToolChoiceOption.required)["tool_choice"] == "required"
    named = ChatCompletionNamedToolChoice(type=ToolType.function, function=Function(name="find"))
    assert params_of(tool_choice=named)["tool_choice"] == {"type": "function", "function": {"name": "find"}}
    search = WebSearchOptions(search_context_size="high")
    assert params_of(web_search_options=search)["web_search_options"] == {"search_context_size": "high"}
    assert params_of(prediction="so far")["prediction"] == {"type": "content", "content": "so far"}


def test_a_deployment_is_azures() -> None:
    prompt = ChatCompletionRequest(messages=HI, deployment_id="mine")
    assert call_of(prompt).model == "azure/mine"
    assert "deployment_id" not in call_of(prompt).params


def test_multimodal_messages_survive() -> None:
    picture = ImageUrl(url="data:image/png;base64,AAAA", detail=ImageDetail.high)
    parts = [
        TextContentPart(text="What is this?"),
        ImageContentPart(image_url=picture),
        FileContentPart(file_url=FileUrl(url="https://files.example/a.pdf")),
        FileContentPart(file_url=FileUrl(url="data:application/pdf;base64,AAAA")),
    ]
    message = UserMessage(content=ArrayOfContentParts(parts), name="ann")
    assert params_of(messages=[message])["messages"] == [
        {
            "role": "user",
            "name": "ann",
            "content": [
                {"type": "text", "text": "What is this?"},
                {"type": "image_url", "image_url": {"url": picture.url, "detail": "high"}},
                {"type": "file", "file": {"file_id": "https://files.example/a.pdf"}},
                {"type": "file", "file": {"file_data": "data:application/pdf;base64,AAAA"}},
            ],
        }
    ]


def test_a_conversation_with_tools_and_thinking_survives() -> None:
    asked = ChatCompletionMessageToolCall(
        id="call_1", type=ToolType.function, function=FunctionCall(name="find", arguments='{"city":"Oslo"}')
    )
    thought = {"type": "thinking", "thinking": "Hm", "signature": "sig"}
    messages = [
        SystemMessage(content="Be brief."),
        AssistantMessage(tool_calls=[asked], reasoning_content="Hm", thinking_blocks=[thought]),
        ToolMessage(content="found", tool_call_id="call_1"),
        FunctionMessage(content="old", name="f"),
    ]
    assert params_of(messages=messages)["messages"] == [
        {"role": "system", "content": "Be brief."},
        {
            "role": "assistant",
            "tool_calls": [
                {
                    "id": "call_1",
                    "type": "function",
                    "function": {"name": "find", "arguments": '{"city":"Oslo"}'},
                }
            ],
            "reasoning_content": "Hm",
            "thinking_blocks": [thought],
        },
        {"role": "tool", "content": "found", "tool_call_id": "call_1"},
        {"role": "function", "content": "old", "name": "f"},
    ]


def test_the_properties_messages_come_first() -> None:
    call = call_of(messages=[{"role": "system", "content": "Be brief."}])
    assert [message["role"] for message in call.params["messages"]] == ["system", "user"]


def test_the_properties_tools_and_the_requests_go_together() -> None:
    toolset = {"type": "toolset_class", "class_path": f"{__name__}.PlaceTools"}
    prompt = ChatCompletionRequest(messages=HI, tools=[tool("count", type="object")])
    for _ in range(2):  # upstream's list of tools grew with every request
        tools = call_of(prompt, toolset=toolset).params["tools"]
        assert [each["function"]["name"] for each in tools] == ["find", "count"]
    assert tools[0]["function"]["parameters"]["properties"]["city"] == {"title": "City", "type": "string"}
    assert "tools" not in call_of().params


def test_a_requests_tool_replaces_its_namesake() -> None:
    toolset = {"type": "toolset_class", "class_path": f"{__name__}.PlaceTools"}
    prompt = ChatCompletionRequest(messages=HI, tools=[tool("find", type="object", description="own")])
    [only] = call_of(prompt, toolset=toolset).params["tools"]
    assert only["function"]["parameters"]["description"] == "own"


def test_models_and_endpoints() -> None:
    call = call_of(base_url="https://llm.example", fallback_models=["a", "b"], max_retries=4)
    assert (call.model, call.fallback_models, call.max_retries) == ("gpt-4", ("a", "b"), 4)
    assert call.endpoint.base_url == "https://llm.example"
    assert call.endpoint_model is None
    # The worker must know whose the endpoint is when a call goes to another model.
    other = call_of(None, "anthropic/claude", base_url="https://llm.example")
    assert (other.model, other.endpoint_model) == ("anthropic/claude", "gpt-4")
    assert call_of(None, ForeignModels.small).model == "gpt-5-nano"


def test_the_requests_retries_and_timeout_go_before_the_properties() -> None:
    prompt = ChatCompletionRequest(messages=HI, max_retries=0, timeout=3)
    assert call_of(prompt, max_retries=5).max_retries == 0
    assert "max_retries" not in call_of(prompt).params
    assert "timeout" not in call_of(prompt).params
    assert timeout_s(Properties(model="m", timeout=9), prompt, QueueSettings()) == 3


def test_nothing_of_the_callers_is_changed() -> None:
    nested = {"type": "object", "properties": {"a": {"enum": ["x"]}}}
    properties = Properties.load({"model": "m", "messages": [{"role": "system", "content": "s"}]})
    prompt = ChatCompletionRequest(messages=HI, tools=[tool("t", **nested)], response_format=dict(nested))
    before, properties_before = copy.deepcopy(prompt), copy.deepcopy(properties)
    call = build_call(properties, prompt, settings=QueueSettings())
    call.params["response_format"]["json_schema"]["schema"]["properties"].clear()
    call.params["tools"][0]["function"]["parameters"]["properties"].clear()
    call.params["messages"][1]["content"] = "changed"
    assert (prompt, properties) == (before, properties_before)


def test_tokens_are_guessed_from_the_text_alone() -> None:
    picture = ImageContentPart(image_url=ImageUrl(url="data:image/png;base64," + "A" * 10_000))
    parts = ArrayOfContentParts([TextContentPart(text="x" * 40), picture])
    prompt = ChatCompletionRequest(messages=[SystemMessage(content="y" * 40), UserMessage(content=parts)])
    assert call_of(prompt).estimated_tokens == 20


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(
    texts=st.lists(st.text(), min_size=1, max_size=4),
    schema=st.dictionaries(st.text(), JSON, max_size=3),
)
def test_whatever_is_json_survives_the_trip(texts: list[str], schema: dict[str, Any]) -> None:
    prompt = ChatCompletionRequest(
        messages=[UserMessage(content=text) for text in texts], response_format={"x": schema}
    )
    call = build_call(Properties(model="m"), prompt, settings=QueueSettings())
    again = CompletionCall.model_validate_json(call.model_dump_json(exclude_defaults=True))
    assert again == call
    assert [message["content"] for message in again.params["messages"]] == texts
    assert again.params["response_format"]["json_schema"]["schema"] == {"x": schema}
