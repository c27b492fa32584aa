"""What providers receive of a resolver's properties, and of a request."""

from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ArrayOfContentParts,
    ChatCompletionRequest,
    FileContentPart,
    FileUrl,
    ImageContentPart,
    ImageUrl,
    TextContentPart,
    UserMessage,
)

from support.callers.llm import MakeLLM, ask
from support.providers.provider import ProviderStub

pytestmark = pytest.mark.usefixtures("worker")

SAMPLING = ("temperature", "top_p", "frequency_penalty", "presence_penalty", "max_tokens")


def body_of(provider: ProviderStub) -> dict[str, Any]:
    [request] = provider.requests("q")
    provider.assert_clean()
    body: dict[str, Any] = request.body
    return body


def test_openai_gets_the_tables_defaults(llm: MakeLLM, provider: ProviderStub) -> None:
    llm().completion(ask("#q"))
    body = body_of(provider)
    assert {name: body.get(name) for name in SAMPLING} == {
        "temperature": 0.7,
        "top_p": 1.0,
        "frequency_penalty": 0.0,
        "presence_penalty": 0.0,
        "max_tokens": None,
    }


def test_openai_gets_what_the_properties_say(llm: MakeLLM, provider: ProviderStub) -> None:
    own = {
        "temperature": 0.1,
        "top_p": 0.2,
        "frequency_penalty": 0.3,
        "presence_penalty": 0.4,
        "max_tokens": 5,
    }
    llm(**own, organization_id="org-7", extra_headers={"X-Team": "blue"}).completion(ask("#q"))
    assert {name: body_of(provider)[name] for name in SAMPLING} == own
    headers = {name.lower(): value for name, value in provider.requests("q")[0].headers}
    assert headers["openai-organization"] == "org-7"
    assert headers["x-team"] == "blue"


def test_a_property_that_is_null_is_not_sent(llm: MakeLLM, provider: ProviderStub) -> None:
    llm(**dict.fromkeys(SAMPLING)).completion(ask("#q"))
    assert set(SAMPLING).isdisjoint(body_of(provider))


@pytest.mark.parametrize("model", ["openai/o3", "openai/gpt-5"])
def test_a_reasoning_model_is_not_told_a_temperature(
    llm: MakeLLM, provider: ProviderStub, model: str
) -> None:
    llm(model=model).completion(ask("#q", reasoning_effort="low"))
    body = body_of(provider)
    assert set(SAMPLING).isdisjoint(body)
    assert body["reasoning_effort"] == "low"


def test_claude_is_not_told_a_temperature_and_a_top_p(llm: MakeLLM, provider: ProviderStub) -> None:
    llm(model="anthropic/claude-sonnet-4-5").completion(ask("#q"))
    body = body_of(provider)
    assert body["temperature"] == 0.7
    assert "top_p" not in body


def test_pictures_and_files_reach_the_provider(llm: MakeLLM, provider: ProviderStub) -> None:
    picture = "data:image/png;base64,iVBORw0KGgo="
    parts = [
        TextContentPart(text="What is this? #q"),
        ImageContentPart(image_url=ImageUrl(url=picture)),
        FileContentPart(file_url=FileUrl(url="data:application/pdf;base64,JVBERi0=")),
    ]
    prompt = ChatCompletionRequest(messages=[UserMessage(content=ArrayOfContentParts(parts))])
    response = llm().completion(prompt)
    text, image, file = body_of(provider)["messages"][0]["content"]
    assert text == {"type": "text", "text": "What is this? #q"}
    assert image["image_url"]["url"] == picture
    assert file["type"] == "file"
    assert file["file"]["file_data"] == "data:application/pdf;base64,JVBERi0="
    assert response.input_messages == prompt.messages
