"""`llm-queue batch`: OpenAI's batch files, with broken lines in them, stopped and gone on with."""

import base64
import json
import os
import signal
import struct
from pathlib import Path
from typing import Any

import pytest

from support.callers.llm import MakeLLM
from support.processes.command import LlmQueue, command_process
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.providers.wire.embeddings import derived_vector
from support.servers.valkey import ValkeyServer

pytestmark = pytest.mark.usefixtures("worker")
MINI = "openai/gpt-4o-mini"


def request_line(custom_id: str, text: str, **body: Any) -> str:
    whole = {"model": MINI, "messages": [{"role": "user", "content": text}], **body}
    entry = {"custom_id": custom_id, "method": "POST", "url": "/v1/chat/completions", "body": whole}
    return json.dumps(entry) + "\n"


def output(path: Path) -> dict[str | None, dict[str, Any]]:
    """The output's lines by their custom id."""
    entries = [json.loads(line) for line in path.read_text().splitlines()]
    assert len({entry["custom_id"] for entry in entries}) == len(entries), "one line for each"
    return {entry["custom_id"]: entry for entry in entries}


@pytest.fixture
def files(tmp_path: Path) -> tuple[Path, Path]:
    return tmp_path / "requests.jsonl", tmp_path / "answers.jsonl"


def test_a_broken_line_in_the_middle_is_an_error_and_the_rest_runs(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    provider.plan("key", provider.bad_key("openai"))
    provider.plan("one", Step(text="first", prompt_tokens=3, completion_tokens=1))
    requests, answers = files
    requests.write_text(
        request_line("one", "#one", temperature=0, seed=7)
        + '{"custom_id": "cut off", "body": {\n'
        + "\n"
        + request_line("refused", "#key")
        + request_line("one", "the same id again")
        + request_line("streamed", "hello", stream=True)
        + json.dumps({"custom_id": "empty", "body": {"model": MINI}})
        + "\n"
        + request_line("last", "#last")
    )
    ran = llm_queue("batch", str(requests), "-o", str(answers))
    assert ran.exit_code == 1
    assert "2 answered, 5 failed" in ran.err
    entries = [json.loads(line) for line in answers.read_text().splitlines()]
    good = {one["custom_id"]: one for one in entries if (one["response"] or {}).get("status_code") == 200}
    assert set(good) == {"one", "last"}
    body = good["one"]["response"]["body"]
    assert (body["object"], body["choices"][0]["message"]["content"]) == ("chat.completion", "first")
    assert body["usage"]["prompt_tokens"] == 3
    assert good["one"]["error"] is None
    troubles = {one["line"]: one for one in entries if "line" in one}
    assert set(troubles) == {2, 4, 5, 6, 7}
    assert "not JSON" in troubles[2]["error"]["message"]
    assert troubles[4]["response"]["status_code"] == 401
    assert "sk-test" not in answers.read_text()
    sent = provider.requests("one")[0].body
    assert (sent["temperature"], sent["seed"]) == (0, 7)
    assert "top_p" not in sent, "parameters as they stand in the file"


def test_the_same_command_asks_only_for_what_is_missing(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    requests.write_text(request_line("a", "#a") + request_line("b", "#b"))
    provider.plan("b", Step(status=400, message="no"), Step(text="now"))
    assert llm_queue("batch", str(requests), "-o", str(answers)).exit_code == 1
    # A line that was being written when its process was killed.
    with answers.open("a") as file:
        file.write('{"custom_id": "b", "respon')
    ran = llm_queue("batch", str(requests), "-o", str(answers), "--json")
    assert ran.exit_code == 0
    assert json.loads(ran.out)["answered_before"] == 1
    assert output(answers)["b"]["response"]["body"]["choices"][0]["message"]["content"] == "now"
    assert len(provider.requests("a")) == 1


def test_a_line_with_the_id_of_an_answered_one_stays_an_error(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    requests.write_text(request_line("a", "#a") + request_line("a", "#other"))
    for before in (0, 1):
        ran = llm_queue("batch", str(requests), "-o", str(answers), "--json")
        figures = json.loads(ran.out)
        assert (ran.exit_code, figures["answered_before"], figures["failed"]) == (1, before, 1)
    assert len(provider.requests("a")) == 1
    assert not provider.requests("other")


def test_it_goes_on_where_ctrl_c_stopped_it(
    llm_queue: LlmQueue, valkey: ValkeyServer, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    requests.write_text("".join(request_line(f"r{n}", f"#n{n}") for n in range(8)))
    for number in range(4, 8):
        provider.plan(f"n{number}", Step(text="late", hold=True))
    env = {**os.environ, "LLM_QUEUE_REDIS_URL": valkey.url}
    arguments = ("batch", str(requests), "-o", str(answers), "--max-in-flight", "3")
    run = command_process(*arguments, env=env, log_path=requests.with_suffix(".log"))
    run.start()
    try:
        wait_until(lambda: answers.exists() and len(answers.read_text().splitlines()) == 4, 60)
        provider.wait_for_requests(1, "n6", timeout_s=20)
        busy = llm_queue(*arguments)
        assert busy.exit_code == 1
        assert "another run writes it" in busy.err
        run.send_signal(signal.SIGINT)
        assert run.wait() == 130
    finally:
        run.kill()
    assert "run the same command to go on" in run.logs()
    assert len(output(answers)) == 4
    for number in range(4, 8):
        provider.release(f"n{number}")
    assert llm_queue(*arguments).exit_code == 0
    assert set(output(answers)) == {f"r{n}" for n in range(8)}
    asked = [len(provider.requests(f"n{number}")) for number in range(8)]
    assert asked == [1] * 8, "nothing is asked, nor billed, twice"


def test_a_byte_order_mark_is_no_part_of_a_line_and_a_line_that_is_not_utf_8_is_an_error(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    broken = request_line("broken", "caf\xe9 #broken").encode("latin-1", "strict")
    broken = broken.replace(b"\\u00e9", b"\xe9")
    lines = [request_line("first", "#first").encode(), broken, request_line("last", "#last").encode()]
    requests.write_bytes(b"\xef\xbb\xbf" + b"".join(lines))
    ran = llm_queue("batch", str(requests), "-o", str(answers))
    assert ran.exit_code == 1
    entries = [json.loads(line) for line in answers.read_text().splitlines()]
    assert {one["custom_id"] for one in entries if one["error"] is None} == {"first", "last"}
    (error,) = [one for one in entries if one["error"] is not None]
    assert (error["line"], error["error"]["message"]) == (2, "line 2: not UTF-8")
    assert len(provider.requests("first")) == 1
    assert not provider.requests("broken"), "nothing is asked, nor billed, in other words"


def test_files_that_cannot_be_used(llm_queue: LlmQueue, files: tuple[Path, Path]) -> None:
    requests, answers = files
    assert llm_queue("batch", str(requests), "-o", str(answers)).exit_code == 2, "no such file"
    requests.write_text("")
    assert llm_queue("batch", str(requests), "-o", str(requests.parent / "no" / "where")).exit_code == 1
    ran = llm_queue("batch", str(requests), "-o", str(answers))
    assert (ran.exit_code, answers.read_text()) == (0, "")


def test_a_batch_of_an_agents_on_real_parts(llm: MakeLLM, provider: ProviderStub) -> None:
    from support.callers.llm import ask

    provider.plan("fail", Step(status=400, message="no"))
    items = list(
        llm().batch([ask("#ok"), ask("#fail"), ask("#ok2")], max_in_flight=2, idempotency_key="run 1")
    )
    assert [item.error is None for item in items] == [True, False, True]
    again = list(llm().batch([ask("#ok"), ask("#fail"), ask("#ok2")], idempotency_key="run 1"))
    assert [item.error is None for item in again] == [True, True, True]
    assert again[0].result().job_id == items[0].result().job_id
    assert len(provider.requests("ok")) == 1


def test_lines_may_share_their_answers(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    provider.plan("same", Step(text="said once", times=None))
    shared = {"single_flight": True, "cache_ttl_s": 60}
    requests.write_text(
        "".join(request_line(f"r{at}", "#same", **shared) for at in range(3))
        + embedding_line("first", ["a", "b"], cache_ttl_s=60)
        + embedding_line("wrong", ["a"], cache_ttl_s=-1)
        + embedding_line("flight", ["a"], single_flight=True)
    )
    llm_queue("batch", str(requests), "-o", str(answers))
    found = output(answers)
    for at in range(3):
        body = found[f"r{at}"]["response"]["body"]
        assert body["choices"][0]["message"]["content"] == "said once"
    (asked,) = provider.requests("same")
    assert not shared.keys() & asked.body.keys(), "the queue's own fields stay here"
    assert "cache_ttl_s" in found["wrong"]["error"]["message"]
    assert "single_flight" in found["flight"]["error"]["message"]
    requests.write_text(embedding_line("second", ["b", "c"], cache_ttl_s=60))
    llm_queue("batch", str(requests), "-o", str(answers.with_name("more.jsonl")))
    texts = [one.body["input"] for one in provider.requests() if "input" in one.body]
    assert texts == [["a", "b"], ["c"]]


def test_lines_may_ask_for_a_service_tier(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    requests.write_text(
        request_line("cheap", "#cheap", model="openai/o3", service_tier="flex")
        + request_line("none", "#none", model="openai/gpt-3.5-turbo", service_tier="flex")
        + request_line("odd", "#odd", model="openai/o3", service_tier="fast")
    )
    llm_queue("batch", str(requests), "-o", str(answers))
    found = output(answers)
    assert found["cheap"]["response"]["body"]["choices"]
    (asked,) = provider.requests("cheap")
    assert asked.body["service_tier"] == "flex"
    for name in ("none", "odd"):
        assert "service_tier" in found[name]["error"]["message"]
    assert not provider.requests("none"), "it is refused before it is sent"


def embedding_line(custom_id: str, given: Any, **body: Any) -> str:
    whole = {"model": "openai/text-embedding-3-small", "input": given, **body}
    return json.dumps({"custom_id": custom_id, "url": "/v1/embeddings", "body": whole}) + "\n"


def test_lines_may_ask_for_embeddings(
    llm_queue: LlmQueue, provider: ProviderStub, files: tuple[Path, Path]
) -> None:
    requests, answers = files
    provider.plan("chat", Step(text="a word"))
    requests.write_text(
        embedding_line("one", "a text", dimensions=4)
        + embedding_line("several", ["a", "b", "a"], encoding_format="base64", dimensions=4)
        + request_line("chat", "#chat")
        + embedding_line("tokens", [[1, 2, 3]])
        + embedding_line("empty", [])
        + embedding_line("blank", ["a", ""])
        + json.dumps({"custom_id": "images", "url": "/v1/images", "body": {}})
        + "\n"
    )
    ran = llm_queue("batch", str(requests), "-o", str(answers))
    assert ran.exit_code == 1
    assert "3 answered, 4 failed" in ran.err
    found = output(answers)
    one = found["one"]["response"]["body"]
    assert one["object"] == "list"
    assert one["data"] == [{"object": "embedding", "index": 0, "embedding": derived_vector("a text", 4)}]
    # Lines that come together share a call, and its tokens are split by the lengths of their texts.
    shared = [found[name]["response"]["body"]["usage"]["prompt_tokens"] for name in ("one", "several")]
    assert sum(shared) == 5
    assert shared[0] in (2, 3)
    assert found["one"]["llm_queue"]["cost_usd"] > 0
    several = [item["embedding"] for item in found["several"]["response"]["body"]["data"]]
    assert [list(struct.unpack("<4f", base64.b64decode(one))) for one in several] == [
        derived_vector(text, 4) for text in "aba"
    ]
    assert found["chat"]["response"]["body"]["choices"][0]["message"]["content"] == "a word"
    complaints = {name: found[name]["error"]["message"] for name in ("tokens", "empty", "blank", "images")}
    assert "input[0]: got a list; give a text" in complaints["tokens"]
    assert "input: give a text" in complaints["empty"]
    assert "input[1]: an empty text" in complaints["blank"]
    assert "url: only /v1/chat/completions and /v1/embeddings" in complaints["images"]
    before = len(provider.requests())
    again = llm_queue("batch", str(requests), "-o", str(answers))
    assert "(3 more before)" in again.err
    assert len(provider.requests()) == before, "an answered line is not asked again"
