"""URLs in messages that no worker shall fetch are refused before anything is queued."""

import base64
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    FileContentPart,
    FileUrl,
    ImageContentPart,
    ImageUrl,
    TextContentPart,
    UserMessage,
)

from rustic_ai.llm_queue.resolver import EndpointNotAllowed, InvalidRequest, LimitExceeded, Properties
from rustic_ai.llm_queue.resolver.call.request import build_call
from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.settings import QueueSettings

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="


def build(content: list[Any], **settings: Any) -> CompletionCall:
    prompt = ChatCompletionRequest(messages=[UserMessage(content=content)])
    return build_call(Properties(model="gpt-4o"), prompt, settings=QueueSettings(**settings))


def image(url: str) -> ImageContentPart:
    return ImageContentPart(image_url=ImageUrl(url=url))


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/cat.png",
        "http://93.184.216.34:8080/cat.png",
        "https://[2606:4700::1111]/cat.png",
        f"data:image/png;base64,{PNG}",
    ],
)
def test_public_urls_and_data_are_taken(url: str) -> None:
    assert build([image(url)])


@pytest.mark.parametrize(
    "wrapped",
    [
        "data:image/png;base64," + base64.encodebytes(base64.b64decode(PNG)).decode(),
        f" DATA:image/png;base64,{PNG[:40]}\r\n {PNG[40:]}\n",
    ],
)
def test_wrapped_base64_goes_out_on_one_line(wrapped: str) -> None:
    text = TextContentPart(text="data:image/png;base64,as it\nis")
    (message,) = build([text, image(wrapped)]).params["messages"]
    assert message["content"][0]["text"] == text.text
    scheme, _, rest = message["content"][1]["image_url"]["url"].partition(":")
    assert (scheme.lower(), rest) == ("data", f"image/png;base64,{PNG}")


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc/passwd",
        "FILE:///etc/passwd",
        "file:/etc/passwd",
        "ftp://example.com/cat.png",
        "gopher://example.com/",
        "http://127.0.0.1/cat.png",
        "http://localhost:6379/",
        "http://localhost./",
        "http://127.1/",
        "http://2130706433/",
        "http://0x7f.0.0.1/",
        "http://0177.0.0.1/",
        "http://[::1]/",
        "http://[::ffff:127.0.0.1]/",
        "http://[64:ff9b::a9fe:a9fe]/",
        "http://127\u30020\u30020\u30021/",
        "http://\uff11\uff12\uff17.0.0.1/",
        "http://0.0.0.0/",
        "http://169.254.169.254/latest/meta-data/",
        "http://[fe80::1%25eth0]/",
        "http://metadata.google.internal/",
        "http://100.100.100.200/",
        "http://168.63.129.16/",
        "http://10.1.2.3/",
        "http://172.16.0.1/",
        "http://192.168.1.1/router",
        "http://[fd00::1]/",
        "http://redis:6379/",
        "http://db.svc.local/",
        "https://user:pw@192.168.1.1/",
        " http://127.0.0.1/",
        "gs://the-workers-own-bucket/cat.png",
        "s3://bucket.example.com/cat.png",
    ],
)
def test_a_url_of_this_machine_its_network_or_its_cloud_is_refused(url: str) -> None:
    with pytest.raises(EndpointNotAllowed, match=r"scheme|LLM_QUEUE_ALLOWED_HOSTS"):
        build([TextContentPart(text="What is it?"), image(url)])


@pytest.mark.parametrize("url", ["http:///cat.png", "https://[::1", "http://"])
def test_a_url_without_a_host_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="names no host"):
        build([image(url)])


@pytest.mark.parametrize(
    "url",
    [
        "data:image/png;base64,not base64!",
        "data:image/png;base64,abc",
        "data:text/plain,hello",
        "data:image/png;base64",
        "DATA:image/png;base64,%41%41",
    ],
)
def test_a_data_url_that_is_not_base64_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequest, match="data URL"):
        build([image(url)])


def test_files_are_held_to_the_same_rules() -> None:
    with pytest.raises(EndpointNotAllowed):
        build([FileContentPart(file_url=FileUrl(url="http://10.0.0.1/secret.pdf"))])
    with pytest.raises(InvalidRequest):
        build([FileContentPart(file_url=FileUrl(url="data:application/pdf;base64,***"))])


def test_a_url_that_is_only_text_is_only_text() -> None:
    text = "Why is http://127.0.0.1 refused, and file:///etc/passwd?"
    assert build([TextContentPart(text=text)])
    assert build_call(
        Properties(model="m"),
        ChatCompletionRequest(messages=[UserMessage(content="http://127.0.0.1/")]),
        settings=QueueSettings(),
    )


def test_hosts_of_ones_own_can_be_allowed() -> None:
    hosts = ("files.corp.internal", "*.svc", "10.0.0.0/8", "our-bucket")
    for url in ("http://files.corp.internal/a", "http://a.b.svc/", "http://10.9.8.7/", "gs://our-bucket/a"):
        assert build([image(url)], allowed_hosts=hosts)
    with pytest.raises(EndpointNotAllowed):
        build([image("http://192.168.0.1/")], allowed_hosts=hosts)


@pytest.mark.parametrize(
    ("fields", "settings", "names"),
    [
        ({"n": 5}, {"max_n": 4}, "LLM_QUEUE_MAX_N"),
        ({"max_tokens": 101}, {"max_output_tokens": 100}, "LLM_QUEUE_MAX_OUTPUT_TOKENS"),
        ({"max_completion_tokens": 101}, {"max_output_tokens": 100}, "LLM_QUEUE_MAX_OUTPUT_TOKENS"),
        ({"response_format": {"a": [[[[[[[[[1]]]]]]]]]}}, {"max_nesting": 8}, "LLM_QUEUE_MAX_NESTING"),
    ],
    ids=["n", "max_tokens", "max_completion_tokens", "nesting"],
)
def test_a_call_beyond_a_limit_is_refused_naming_the_rule(
    fields: dict[str, Any], settings: dict[str, Any], names: str
) -> None:
    prompt = ChatCompletionRequest(messages=[UserMessage(content="Hi")], **fields)
    with pytest.raises(LimitExceeded, match=names):
        build_call(Properties(model="m"), prompt, settings=QueueSettings(**settings))
