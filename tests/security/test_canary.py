"""A key, a prompt and an answer that nobody may see: looked for in every place an attacker reads."""

import asyncio
import base64
import json
import logging
import threading
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cache
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest
import redis
from pydantic import SecretStr

from rustic_ai.llm_queue.resolver import QueueEmbeddingsResolver, QueueError, QueueLLMResolver
from rustic_ai.llm_queue.resolver.client.engine import Engine
from rustic_ai.llm_queue.tasks.frames import ChunksFrame
from rustic_ai.llm_queue.tasks.ledger.keys import CACHE_PREFIX, FOLLOWERS_PREFIX
from rustic_ai.llm_queue.tasks.outcome import Account, Answered, Failed
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.tasks.vectors import float32_bytes
from support.callers.hostile import a_call, a_job, outcome_of
from support.callers.llm import MakeLLM, ask
from support.processes.wait import wait_until
from support.providers.provider import Step
from support.providers.wire.embeddings import derived_vector
from support.servers.flower import FlowerProcess
from support.servers.fortress import CANARY, Fortress
from support.servers.roles import PASSWORDS
from support.workers.celery_events import celery_events

TENANT_KEY = "sk-canarytenant0123456789"
TENANT_HEADER = "canary-header-0123456789"
PROMPT = "canaryprompt my mother's maiden name is Ödegård"
ANSWER = "canaryanswer forty-two"
IDEMPOTENCY_KEY = "canaryidempotency"
#: Nobody but the two ends may see these; a provider is one of them.
PRIVATE = {
    "the tenant's key": TENANT_KEY,
    "the tenant's header": TENANT_HEADER,
    "the prompt": "canaryprompt",
    "the answer": "canaryanswer",
    "the caller's idempotency key": IDEMPOTENCY_KEY,
    "a key of the worker's": CANARY,
    **{f"the {role}'s password": password for role, password in PASSWORDS.items()},
}


#: What Flower's page of tasks asks for its table.
DATATABLE = {
    "draw": 1, "start": 0, "length": 100, "search[value]": "",
    "order[0][column]": 0, "order[0][dir]": "asc", "columns[0][data]": "name",
}  # fmt: skip


@dataclass
class Seen:
    """What could be read of one run, by where it was read."""

    places: dict[str, str] = field(default_factory=dict)

    def assert_private(self, *, sealing_key: str, but: dict[str, set[str]] | None = None) -> None:
        """Raises AssertionError naming each secret and the place that shows it."""
        secrets = {**PRIVATE, "the sealing key": sealing_key.partition(":")[2]}
        found = [
            f"{what} in {place}: …{_around(text, secret)}…"
            for place, text in self.places.items()
            for what, secret in secrets.items()
            if what not in (but or {}).get(place, set()) and _shows(text, secret)
        ]
        assert not found, "\n".join(found)


def _shows(text: str, secret: str) -> bool:
    return any(form in text for form in _forms(secret))


@cache
def _forms(secret: str) -> tuple[str, ...]:
    """A text as it stands, in JSON, and in base64, where it may begin at any of three places of a group."""
    raw = secret.encode()
    shifted = [base64.b64encode(b"\0" * at + raw).decode() for at in range(3)]
    # What the bytes before and after it have a part in is cut off.
    inner = [form[(4 if at else 0) : len(form) // 4 * 4 - 4] for at, form in enumerate(shifted)]
    return (secret, json.dumps(secret)[1:-1], *inner)


def _around(text: str, secret: str) -> str:
    at = text.find(secret)
    return text[max(0, at - 80) : at + len(secret) + 40]


@contextmanager
def _listening(fortress: Fortress) -> Iterator[list[str]]:
    """Everything that is published on Redis meanwhile, Celery's events among it."""
    heard: list[str] = []
    with fortress.server.client() as client, client.pubsub() as pubsub:
        pubsub.psubscribe("*")
        stop = threading.Event()

        def listen() -> None:
            while not stop.is_set():
                if message := pubsub.get_message(timeout=0.1):
                    heard.append(f"{message['channel']}: {message['data']}")

        thread = threading.Thread(target=listen)
        thread.start()
        try:
            yield heard
        finally:
            stop.set()
            thread.join()


def _everything_in(server_client: redis.Redis) -> str:
    """Every key and value of the database."""
    readers: dict[str, Any] = {
        "string": server_client.get,
        "hash": server_client.hgetall,
        "list": lambda key: server_client.lrange(key, 0, -1),
        "set": server_client.smembers,
        "zset": lambda key: server_client.zrange(key, 0, -1, withscores=True),
        "stream": server_client.xrange,
    }
    keys = list(server_client.scan_iter(count=1000))
    return "\n".join(f"{key}: {readers[str(server_client.type(key))](key)!r}" for key in map(str, keys))


def _work(llm: MakeLLM, fortress: Fortress) -> tuple[str, list[Exception]]:
    """One answer, one stream, one job kept waiting, and failures of which some echo what they were sent."""
    provider = fortress.provider
    provider.plan("answer", Step(text=ANSWER, chunk_chars=5, times=None))
    provider.plan("echo", Step(status=400, message=f"{PROMPT} came with {TENANT_KEY}", times=None))
    provider.plan("wrong", Step(status=401, message=f"Incorrect API key provided: {TENANT_KEY}", times=None))
    own = llm(
        api_key=TENANT_KEY, base_url=provider.base_url("openai"), extra_headers={"X-Secret": TENANT_HEADER}
    )
    handle = own.submit(ask(f"{PROMPT} #answer"), idempotency_key=IDEMPOTENCY_KEY)
    assert handle.result().choices[0].message.content == ANSWER
    with llm().stream(ask(f"{PROMPT} #answer")) as stream:
        assert "".join(one.choices[0].delta.content or "" for one in stream if one.choices) == ANSWER
    errors: list[Exception] = []
    for tag in ("echo", "wrong"):
        with pytest.raises(QueueError) as caught:
            own.completion(ask(f"{PROMPT} #{tag}"))
        errors.append(caught.value)
    return handle.id, errors


def _look_at_all(
    seen: Seen,
    fortress: Fortress,
    events: Sequence[Mapping[str, Any]],
    heard: Sequence[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    """Note what Redis, its channels and files, the worker and the agent hold and tell."""
    seen.places["Celery's events"] = repr(events)
    seen.places["what was published"] = "\n".join(heard)
    with fortress.server.client() as client:
        seen.places["Redis"] = _everything_in(client)
    for file in fortress.server.directory.rglob("*.aof"):
        seen.places[f"Redis' file {file.name}"] = file.read_bytes().decode("utf-8", "replace")
    seen.places["the worker's log"] = fortress.worker.logs()
    seen.places["the agent's log"] = "\n".join(
        f"{one.name} {one.getMessage()} {one.exc_text}"
        for one in caplog.records
        # The test's own, by which it reads Flower and instructs the provider.
        if not one.name.startswith(("httpx", "httpcore"))
    )
    seen.places["the worker's metrics"] = httpx.get(fortress.metrics_url).text


def test_nothing_private_is_readable_anywhere(
    fortress: Fortress, llm: MakeLLM, engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    seen = Seen()
    caplog.set_level(logging.DEBUG)
    with (
        FlowerProcess(fortress.env("flower")) as flower,
        _listening(fortress) as heard,
        celery_events(fortress.url("flower")) as events,
    ):
        wait_until(lambda: fortress.worker.nodename in flower.get("/api/workers").text, 15, "the worker")
        job_id, errors = _work(llm, fortress)
        # A message of a form that LiteLLM cannot take makes it quote what it was given.
        odd = a_call("gemini/gemini-2.0-flash", prompt=[{"type": "image_url", "image_url": PROMPT}])
        assert isinstance(asyncio.run(_ended(engine, odd)), Failed)
        wait_until(lambda: job_id in flower.get("/api/tasks").text, 10, "the job at Flower")
        wait_until(lambda: "task-failed" in {one["type"] for one in events}, 10, "the failures' events")
        paths = [path for path in flower.readable_paths(job_id) if not path.startswith("/api/worker/")]
        paths += [
            f"/worker/{fortress.worker.nodename}",
            "/api/workers?refresh=1",
            f"/tasks/datatable?{urlencode(DATATABLE)}",
        ]
        for path in paths:
            answer = flower.get(path)
            seen.places[f"Flower's {path}"] = f"{answer.headers}{answer.text}"
        seen.places["Flower's log"] = flower.logs()
    assert "task-succeeded" in {one["type"] for one in events}
    assert any("celery-task-meta-" in one for one in heard)
    assert any("llmq:frames:" in one for one in heard)
    _look_at_all(seen, fortress, events, heard, caplog)
    for error in errors:
        shown = f"{error} {error!r} {vars(error)}" + "".join(traceback.format_exception(error))
        seen.places[f"a {type(error).__name__}"] = shown
    # What a provider says of a prompt is for who wrote it.
    echoed = {f"a {type(errors[0]).__name__}": {"the prompt"}}
    seen.assert_private(sealing_key=fortress.sealing_key, but=echoed)
    assert "DEBUG" in fortress.worker.logs()
    assert job_id in seen.places["Redis"]
    assert job_id in seen.places["the worker's log"]


def test_a_kept_answer_is_readable_to_nobody_and_shared_with_no_other_organisation(
    fortress: Fortress, llm: MakeLLM
) -> None:
    fortress.provider.plan("answer", Step(text=ANSWER, times=None))
    asked = {"cache_ttl_s": 600, "cache_scope": "org", "single_flight": True}
    for org in ("acme", "umbrella"):
        agents = [llm(org, guild, "helper", **asked) for guild in ("support", "sales")]
        said = [one.completion(ask(f"{PROMPT} #answer")) for one in agents]
        assert [one.cached for one in said] == [None, "hit"]
        assert {one.choices[0].message.content for one in said} == {ANSWER}
    assert len(fortress.provider.requests("answer")) == 2
    seen = Seen()
    with fortress.server.client() as client:
        seen.places["Redis"] = _everything_in(client)
        names = [key for key in map(str, client.scan_iter()) if key.startswith(CACHE_PREFIX)]
    assert len(names) == 2
    assert "llmq:cache:answer:" in seen.places["Redis"]
    for file in fortress.server.directory.rglob("*.aof"):
        seen.places[f"Redis' file {file.name}"] = file.read_bytes().decode("utf-8", "replace")
    seen.places["the worker's log"] = fortress.worker.logs()
    seen.assert_private(sealing_key=fortress.sealing_key)


def test_texts_vectors_and_failures_of_equal_calls_are_readable_to_nobody(
    fortress: Fortress, llm: MakeLLM, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    provider = fortress.provider
    provider.plan("echo", Step(status=400, message=f"{PROMPT} came with {TENANT_KEY}", times=None))
    provider.plan("held", Step(status=400, message=f"{PROMPT} came with {TENANT_KEY}", hold=True))
    resolver = QueueEmbeddingsResolver(model="openai/text-embedding-3-small", cache_ttl_s=600)
    embeddings = resolver.resolve("acme", "support", "helper")
    seen, texts = Seen(), [f"{PROMPT} {at}" for at in range(3)]
    with _listening(fortress) as heard, celery_events(fortress.url("flower")) as events:
        assert embeddings.embed(texts) == embeddings.embed(texts) == [derived_vector(one) for one in texts]
        with pytest.raises(QueueError):
            embeddings.embed([*texts, f"{PROMPT} #echo"])
        agent = llm(api_key=TENANT_KEY, base_url=provider.base_url("openai"), single_flight=True)
        jobs = [agent.submit(ask(f"{PROMPT} #held")) for _ in range(3)]
        with fortress.server.client() as client:
            wait_until(
                lambda: sum(client.zcard(key) for key in client.scan_iter(f"{FOLLOWERS_PREFIX}*")) == 2,
                15,
                "the others to follow",
            )
        provider.release("held")
        for job in jobs:
            with pytest.raises(QueueError):
                job.result(timeout_s=20)
        wait_until(
            lambda: sum(one["type"] == "task-failed" for one in events) >= 2, 10, "the failures' events"
        )
    _look_at_all(seen, fortress, events, heard, caplog)
    seen.assert_private(sealing_key=fortress.sealing_key)
    vector = base64.b64encode(float32_bytes(derived_vector(texts[0]))).decode()[:-4]
    shown = [place for place, text in seen.places.items() if vector in text]
    assert not shown, "a vector tells what its text was"


async def _ended(engine: Engine, call: Any) -> Any:
    return await engine.acall(lambda: outcome_of(engine, a_job(call, engine.settings)))


def test_no_repr_shows_anything_private(agent_settings: QueueSettings, engine: Engine) -> None:
    properties: dict[str, Any] = {
        "model": "openai/gpt-4o-mini",
        "api_key": TENANT_KEY,
        "extra_headers": {"X-Secret": TENANT_HEADER, "Authorization": f"Bearer {TENANT_HEADER}"},
        "messages": [{"role": "system", "content": PROMPT}],
    }
    resolver = QueueLLMResolver(**properties)
    llm = resolver.resolve("o", "g", "a")
    call = a_call(prompt=PROMPT, endpoint={"api_key": TENANT_KEY, "extra_headers": {"X": TENANT_HEADER}})
    job = a_job(call, agent_settings)
    plain = a_job(call, QueueSettings(sealing_keys=SecretStr("")))
    answered = Answered(
        account=Account(), model="m", response={"choices": [{"message": {"content": ANSWER}}]}
    )
    frame = ChunksFrame(epoch=1, seq=1, chunks=({"choices": [{"delta": {"content": ANSWER}}]},))
    handle = llm.job(job.id)
    shown = Seen(
        {
            type(one).__name__: f"{one!r} {one}"
            for one in (
                agent_settings, agent_settings.sealer(), resolver, resolver.properties, llm, handle, engine,
                call, call.endpoint, job, answered, frame,
            )
        }
    )  # fmt: skip
    shown.places["a job that is not sealed"] = repr(plain)
    shown.places["get_config"] = repr(llm.get_config())
    # The configuration is the agent's own, its standing messages too; its secrets are masked.
    own = {"get_config": {"the prompt"}}
    shown.assert_private(sealing_key=agent_settings.sealing_keys.get_secret_value(), but=own)


def test_the_search_itself_finds_what_is_hidden_in_plain_sight() -> None:
    for at in range(4):
        hidden = base64.b64encode(b"x" * at + PROMPT.encode() + b"y" * at).decode()
        assert _shows(f"body: {hidden}", "canaryprompt")
    assert _shows(json.dumps({"a": "Ödegård"}), "Ödegård")
    assert not _shows(base64.b64encode(b"something else, and long enough").decode(), "canaryprompt")
