"""Schemas and headers that a rule refuses: by a real client, and by a real worker for one without checks."""

from collections.abc import Iterator
from functools import partial
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from rustic_ai.llm_queue.resolver import ConfigurationError, LimitExceeded
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.outcome import Failed
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from support.callers.hostile import a_call, a_job, outcome_of
from support.callers.llm import MakeLLM
from support.providers.provider import ProviderStub
from tasks.policy.test_schema_size import a_tool, bomb

pytestmark = pytest.mark.usefixtures("worker")

GEMINI = "gemini/gemini-2.5-flash"


@pytest.fixture
def engine(redis_url: str) -> Iterator[Engine]:
    engine = Engine(QueueSettings(redis_url=redis_url))
    yield engine
    engine.close()


def refused_by_the_worker(engine: Engine, **params: Any) -> tuple[ErrorKind, str]:
    """By what rule, for a client that has no checks."""
    job = a_job(a_call(params.pop("model", "openai/gpt-4o-mini"), **params), engine.settings)
    outcome = engine.call(partial(outcome_of, engine, job))
    assert isinstance(outcome, Failed), outcome
    return outcome.error.kind, outcome.error.message


def test_a_schema_bomb(engine: Engine, llm: MakeLLM, provider: ProviderStub) -> None:
    tools = [a_tool(bomb())]
    request = ChatCompletionRequest.model_validate(
        {"messages": [{"role": "user", "content": "#q"}], "tools": tools}
    )
    with pytest.raises(LimitExceeded, match=r"\$refs written out") as refused:
        llm(model=GEMINI).completion(request)
    assert refused.value.job_id is None, "it never came to the queue"
    kind, message = refused_by_the_worker(engine, model=GEMINI, tools=tools)
    assert kind is ErrorKind.LIMIT_EXCEEDED
    assert "$refs written out" in message
    assert provider.requests() == []


HEADERS = {"Expect": ErrorKind.BAD_REQUEST, "authorization": ErrorKind.CREDENTIAL_REQUIRED}


@pytest.mark.parametrize("header", HEADERS)
def test_a_header_that_no_call_may_have(
    engine: Engine, llm: MakeLLM, provider: ProviderStub, header: str
) -> None:
    headers = {header: "100-continue"}
    with pytest.raises(ConfigurationError, match=header):
        llm(extra_headers=headers)
    kind, message = refused_by_the_worker(engine, endpoint={"extra_headers": headers})
    assert kind is HEADERS[header]
    assert header in message
    assert provider.requests() == []
