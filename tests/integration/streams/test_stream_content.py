"""What the provider streams is what the reader gets, in every form that answers take."""

import asyncio
import json
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    ChatCompletionTool,
    FinishReason,
    FunctionObject,
    ToolType,
    UserMessage,
)

from local_model import LocalModelServer
from rustic_ai.llm_queue.resolver import ChatCompletionChunk, QueueLLM
from support.callers.llm import MakeLLM, ask
from support.processes.wait import async_wait_until
from support.providers.provider import ProviderStub, Step, ToolCall

MODELS = {
    "openai": "openai/gpt-4o-mini",
    "anthropic": "anthropic/claude-3-5-haiku-latest",
    "gemini": "gemini/gemini-2.0-flash",
    "azure": "azure/gpt-4o-mini",
    "huggingface": "huggingface/meta-llama/Llama-2-7b",
    "cohere": "cohere/command-r",
}
WITH_TOOLS = ("openai", "anthropic", "gemini")


def read(llm: QueueLLM, prompt: ChatCompletionRequest) -> tuple[list[ChatCompletionChunk], Any]:
    with llm.stream(prompt) as stream:
        return list(stream), stream


@pytest.mark.parametrize("name", MODELS)
def test_the_reader_gets_the_text_the_provider_sent(llm: MakeLLM, provider: ProviderStub, name: str) -> None:
    provider.plan("q", Step(words=60, chunk_delay_s=0.004, prompt_tokens=11, completion_tokens=60))
    chunks, stream = read(llm(model=MODELS[name]), ask("Tell me. #q"))
    (sent,) = provider.requests("q")
    assert sent.stream
    assert "".join(chunk.text for chunk in chunks) == sent.text
    assert stream.text == stream.response.choices[0].message.content == sent.text
    assert len([chunk for chunk in chunks if chunk.text]) > 1, "it came in pieces"
    reasons = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert reasons == [FinishReason.stop]
    usage = [chunk.usage for chunk in chunks if chunk.usage][-1]
    assert usage.completion_tokens == 60
    assert (usage.prompt_tokens, stream.response.usage.prompt_tokens) == (11, 11)
    assert stream.restarts == 0
    assert [attempt.status for attempt in stream.response.attempts] == ["ok"]
    provider.assert_clean()


@pytest.mark.parametrize("model", ["openai/gpt-4o-mini", "anthropic/claude-sonnet-4-5"])
def test_the_response_says_what_it_cost(llm: MakeLLM, provider: ProviderStub, model: str) -> None:
    provider.plan("q", Step(text="So much.", prompt_tokens=100, completion_tokens=10))
    _, stream = read(llm(model=model), ask("How much? #q"))
    assert stream.response.cost_usd > 0
    assert stream.response.worker
    assert stream.response.job_id == stream.job_id


def with_tools(text: str) -> ChatCompletionRequest:
    names = ("weather", "time")
    tools = [
        ChatCompletionTool(
            type=ToolType.function,
            function=FunctionObject(
                name=name,
                description=name,
                parameters={"type": "object", "properties": {"city": {"type": "string"}}},
            ),
        )
        for name in names
    ]
    return ChatCompletionRequest(messages=[UserMessage(content=text)], tools=tools)


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_tool_calls_come_in_pieces_and_add_up(llm: MakeLLM, provider: ProviderStub, name: str) -> None:
    wanted = [("weather", {"city": "Reykjavík, Iceland"}), ("time", {"city": "東京"})]
    calls = tuple(ToolCall(name=name, arguments=json.dumps(args)) for name, args in wanted)
    provider.plan("q", Step(tool_calls=calls))
    chunks, stream = read(llm(model=MODELS[name]), with_tools("Now? #q"))

    heard: dict[int, dict[str, str]] = {}
    for delta in (choice.delta for chunk in chunks for choice in chunk.choices):
        for piece in delta.tool_calls or ():
            call = heard.setdefault(piece.index, {"id": "", "name": "", "arguments": ""})
            assert piece.function is not None
            call["id"] += piece.id or ""
            call["name"] += piece.function.name or ""
            call["arguments"] += piece.function.arguments or ""
    assert [(call["name"], json.loads(call["arguments"])) for call in heard.values()] == wanted

    (choice,) = stream.response.choices
    assert choice.finish_reason == FinishReason.tool_calls
    assert [
        {"id": call.id, "name": call.function.name, "arguments": call.function.arguments}
        for call in choice.message.tool_calls
    ] == list(heard.values())
    assert stream.restarts == 0


@pytest.mark.parametrize("name", WITH_TOOLS)
def test_thoughts_come_apart_from_the_answer(llm: MakeLLM, provider: ProviderStub, name: str) -> None:
    provider.plan("q", Step(reasoning="First this, then that.", text="That."))
    model = {"anthropic": "anthropic/claude-sonnet-4-5", "gemini": "gemini/gemini-2.5-flash"}.get(
        name, MODELS[name]
    )
    chunks, stream = read(llm(model=model), ask("This or that? #q"))
    thoughts = "".join(choice.delta.reasoning_content or "" for chunk in chunks for choice in chunk.choices)
    assert thoughts == stream.response.choices[0].message.reasoning_content == "First this, then that."
    assert stream.text == "That."
    assert stream.restarts == 0


def test_a_refusal_comes_as_one(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(refusal="I must not say that."))
    chunks, stream = read(llm(), ask("Say it! #q"))
    refusal = "".join(choice.delta.refusal or "" for chunk in chunks for choice in chunk.choices)
    assert refusal == "I must not say that."
    assert stream.restarts == 0
    fields = stream.response.choices[0].message.provider_specific_fields
    assert fields["refusal"] == refusal


def test_several_choices_come_side_by_side(llm: MakeLLM, provider: ProviderStub) -> None:
    chunks, stream = read(llm(), ask("Thrice? #q", n=3))
    (sent,) = provider.requests("q")
    assert len(set(sent.texts)) == 3
    for index, text in enumerate(sent.texts):
        pieces = [
            choice.delta.content or ""
            for chunk in chunks
            for choice in chunk.choices
            if choice.index == index
        ]
        assert "".join(pieces) == stream.text_of(index) == text
        assert stream.response.choices[index].message.content == text


def test_an_empty_answer_is_an_answer(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("q", Step(text=""))
    chunks, stream = read(llm(), ask("Nothing? #q"))
    assert "".join(chunk.text for chunk in chunks) == stream.text == ""
    assert stream.response.choices[0].finish_reason == FinishReason.stop


async def test_200_streams_at_once(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("*", Step(words=15, chunk_delay_s=0.02, hold=True, times=None))
    one = llm()

    async def read_one(number: int) -> tuple[str, str | None]:
        async with one.async_stream(ask(f"#s{number}")) as stream:
            heard = "".join([chunk.text async for chunk in stream])
        assert stream.restarts == 0
        return heard, stream.response.choices[0].message.content

    readers = [asyncio.create_task(read_one(number)) for number in range(200)]
    await async_wait_until(lambda: provider.open_calls == 200, 60, "200 open streams")
    provider.release()
    answers = await asyncio.gather(*readers)
    sent = {request.tag: request.text for request in provider.requests()}
    assert answers == [(sent[f"s{number}"], sent[f"s{number}"]) for number in range(200)]


def test_the_real_model_streams_what_it_says_at_once(
    llm: MakeLLM, local_model_server: LocalModelServer
) -> None:
    small = llm(
        model=f"openai/{local_model_server.model}",
        base_url=local_model_server.base_url,
        temperature=0,
        max_tokens=24,
    )
    prompt = ask("What is the capital of France?")
    chunks, stream = read(small, prompt)
    assert len([chunk for chunk in chunks if chunk.text]) > 3, "words as they come"
    assert "".join(chunk.text for chunk in chunks) == stream.text
    assert stream.text == small.completion(prompt).choices[0].message.content
    assert stream.response.usage.completion_tokens == 24
    assert stream.restarts == 0
