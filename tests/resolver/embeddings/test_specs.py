"""Specs of upstream's resolvers for embeddings, of which only the class name is changed."""

from typing import Any

import pytest
from rustic_ai.core.guild.dsl import DependencySpec

from rustic_ai.llm_queue.resolver import ConfigurationError, QueueEmbeddings
from rustic_ai.llm_queue.resolver.testing import InMemoryQueue
from rustic_ai.llm_queue.resolver.testing.vectors import derived_vector
from rustic_ai.llm_queue.tasks.call import EmbeddingCall

OURS = "rustic_ai.llm_queue.resolver.QueueEmbeddingsResolver"
_OPENAI = "rustic_ai.langchain.agent_ext.embeddings.openai.OpenAIEmbeddingsResolver"
_VERTEX = "rustic_ai.vertexai.agent_ext.embeddings.VertexAIEmbeddingsResolver"


def resolved(spec: dict[str, Any]) -> QueueEmbeddings:
    """What an agent gets from a spec whose class name was changed."""
    dependency = DependencySpec.model_validate({**spec, "class_name": OURS})
    embeddings = dependency.to_resolver().resolve("org", "guild", "agent")
    assert isinstance(embeddings, QueueEmbeddings)
    return embeddings


@pytest.mark.parametrize(
    ("spec", "model", "params"),
    [
        ({"class_name": _OPENAI, "properties": {}}, "text-embedding-ada-002", {}),
        (
            {"class_name": _OPENAI, "properties": {"model_name": "text-embedding-3-large"}},
            "text-embedding-3-large",
            {},
        ),
        (
            {
                "class_name": _OPENAI,
                "properties": {
                    "model_name": "text-embedding-3-small",
                    "deployment": "mine",
                    "model_conf": {
                        "openai_api_type": "azure",
                        "openai_api_base": "https://mine.openai.azure.com",
                        "openai_api_version": "2024-02-01",
                        "dimensions": 8,
                        "chunk_size": 16,
                    },
                },
            },
            "azure/mine",
            {"dimensions": 8},
        ),
        (
            {
                "class_name": _VERTEX,
                "properties": {"model_name": "text-embedding-005", "conf": {"location": "europe-west1"}},
            },
            "vertex_ai/text-embedding-005",
            {},
        ),
        (
            {
                "class_name": _VERTEX,
                "properties": {
                    "conf": {
                        "project_id": "p",
                        "task_type": "RETRIEVAL_DOCUMENT",
                        "output_dimensionality": 8,
                        "auto_truncate": True,
                        "max_tokens_per_batch": 20_000,
                    }
                },
            },
            "vertex_ai/text-embedding-005",
            {"dimensions": 8, "input_type": "RETRIEVAL_DOCUMENT", "truncate": True},
        ),
        (
            {"class_name": _OPENAI, "properties": {"model": "text-embedding-3-small", "dimensions": 8}},
            "text-embedding-3-small",
            {"dimensions": 8},
        ),
    ],
)
def test_only_the_class_name_changes(
    queue: InMemoryQueue, spec: dict[str, Any], model: str, params: dict[str, Any]
) -> None:
    assert resolved(spec).embed(["one", "two"]) == [derived_vector("one"), derived_vector("two")]
    (call,) = queue.calls
    assert isinstance(call, EmbeddingCall)
    assert (call.model, call.params, call.texts) == (model, params, ("one", "two"))


@pytest.mark.parametrize(
    ("properties", "complaint"),
    [
        ({"dimensions": 0}, "dimensions"),
        ({"dimensions": True}, "dimensions"),
        ({"max_batch_size": 4_096}, "max_batch_size"),
        ({"model_conf": "gpt"}, "model_conf: got 'gpt'; give a mapping"),
        ({"dimension": 8, "modle": "x"}, "modle"),
        ({"truncate": "maybe"}, "truncate"),
        ({"model_conf": {"openai_proxy": "http://proxy"}}, "set HTTPS_PROXY"),
    ],
)
def test_a_property_that_is_wrong_is_named(properties: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigurationError, match=complaint):
        resolved({"class_name": _OPENAI, "properties": properties})


def test_ten_thousand_texts_and_more_are_split(queue: InMemoryQueue) -> None:
    texts = [f"text {at}" for at in range(10_001)]
    found = resolved({"properties": {"model": "text-embedding-3-small"}}).embed(texts)
    assert found == [derived_vector(text) for text in texts]
    assert max(call.text_count for call in queue.calls) <= 256


async def test_the_sync_form_works_inside_a_running_loop(queue: InMemoryQueue) -> None:
    found = resolved({"properties": {"model": "text-embedding-3-small"}})
    assert found.embed(["one"]) == await found.aembed(["one"])
