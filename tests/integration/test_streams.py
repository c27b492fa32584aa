"""Streams, on real parts: what a reader ends up with is what the provider said."""

import pytest

from support.llm import MakeLLM, ask
from support.provider import ProviderStub, Step

pytestmark = pytest.mark.usefixtures("worker")


def test_a_stream(llm: MakeLLM, provider: ProviderStub) -> None:
    provider.plan("s", Step(words=40, chunk_delay_s=0.01))
    with llm().stream(ask("Tell me. #s")) as stream:
        chunks = list(stream)
        for c in chunks: print(c)
    print(stream.text, stream.response)
    assert stream.text == provider.requests("s")[0].text == stream.response.choices[0].message.content
    assert stream.restarts == 0
