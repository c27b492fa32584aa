"""`llm-queue budgets`, alerts and metrics, on a worker with a budget."""

import hashlib
import hmac
import json
import queue
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path
from typing import Any

import pytest

from rustic_ai.llm_queue.resolver import BudgetExceeded, QueueLLM, QueueLLMResolver
from rustic_ai.llm_queue.tasks.privacy.seal import KeyRing, make_key
from support.callers.llm import ask
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.http_server import HttpServer
from support.servers.metrics import Scrape
from support.servers.ports import free_port
from support.servers.valkey import ValkeyServer
from support.workers.celery_events import celery_events
from support.workers.worker import WorkerProcess

QUEUE = "budgets"
KEY = make_key()
METRICS_PORT = free_port()
#: A cent each: see tests/faults/test_budgets.py.
CENT = Step(prompt_tokens=0, completion_tokens=1_000, times=None)
POSTED: queue.SimpleQueue[tuple[bytes, str]] = queue.SimpleQueue()
BUDGET = {"name": "acme", "usd": 0.035, "period": "day", "on_exceeded": "refuse", "alerts": [50]}


class _Hook(BaseHTTPRequestHandler):
    """Fails at first, as hooks do."""

    refused = 0

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if not _Hook.refused:
            _Hook.refused += 1
            self.send_error(503)
            return
        POSTED.put((body, self.headers["X-LLM-Queue-Signature"]))
        self.send_response(204)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture(scope="module")
def budgeted(
    valkey: ValkeyServer, provider_stub_process: ProviderStub, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[WorkerProcess]:
    with HttpServer(_Hook) as hook:
        env = {
            "LLM_QUEUE_REDIS_URL": valkey.url,
            "LLM_QUEUE_QUEUE": QUEUE,
            "LLM_QUEUE_SEALING_KEYS": KEY,
            "LLM_QUEUE_METRICS_PORT": str(METRICS_PORT),
            "LLM_QUEUE_BUDGETS": json.dumps([BUDGET]),
            "LLM_QUEUE_ALERT_URL": hook.url,
            **provider_stub_process.env(),
        }
        log: Path = tmp_path_factory.mktemp("budgeted") / "worker.log"
        with WorkerProcess(env, log_path=log) as worker:
            yield worker


@pytest.fixture
def budgeted_llm(budgeted: WorkerProcess, valkey: ValkeyServer, monkeypatch: pytest.MonkeyPatch) -> QueueLLM:
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", valkey.url)
    monkeypatch.setenv("LLM_QUEUE_QUEUE", QUEUE)
    monkeypatch.setenv("LLM_QUEUE_SEALING_KEYS", KEY)
    monkeypatch.setenv("LLM_QUEUE_BUDGETS", json.dumps([BUDGET]))
    return QueueLLMResolver(model="openai/gpt-4o", max_tokens=1_000).resolve("org", "guild", "agent")


@pytest.fixture
def events(valkey: ValkeyServer) -> Iterator[list[dict[str, Any]]]:
    """What Celery's monitors are told."""
    with celery_events(valkey.url) as received:
        yield received


def test_a_budget_is_shown_raised_counted_anew_and_its_alert_goes_out_once(
    budgeted_llm: QueueLLM,
    budgeted: WorkerProcess,
    llm_queue: LlmQueue,
    provider: ProviderStub,
    valkey: ValkeyServer,
    events: list[dict[str, Any]],
) -> None:
    provider.plan("q", CENT)
    response = budgeted_llm.completion(ask("#q"))
    assert response.budget is not None
    assert (response.budget.name, response.budget.limit) == ("acme", 0.035)
    for _ in range(2):
        budgeted_llm.completion(ask("#q"))
    with pytest.raises(BudgetExceeded, match=r"'acme' of .* USD has no room") as caught:
        budgeted_llm.completion(ask("#q"))
    assert (caught.value.status_code, caught.value.permanent) == (429, False)
    assert caught.value.budget is not None
    assert caught.value.budget.resets_at is not None

    (row,) = json.loads(llm_queue("budgets", "list", "--json").out)
    assert (row["name"], row["spent"], row["held"], row["limit"], row["calls"]) == ("acme", 0.03, 0, 0.035, 3)
    assert row["of"] == "all"
    assert "86%" in llm_queue("budgets", "list").out
    assert json.loads(llm_queue("budgets", "history", "--json").out) == []

    top = llm_queue("top", "--once").out
    assert "acme" in top
    assert "86%" in top

    raised = llm_queue("budgets", "set", "acme", "0.05")
    assert (raised.exit_code, "acme is 0.05" in raised.out) == (0, True)
    nowhere = llm_queue("budgets", "set", "acme", "0.05", "--bucket", "x")
    assert (nowhere.exit_code, f"'x' is no bucket of 'acme'; there are {row['bucket']}" in nowhere.err) == (
        1,
        True,
    )
    budgeted_llm.completion(ask("#q"))
    assert "$0.0500 (set)" in llm_queue("budgets", "list").out
    llm_queue("budgets", "set", "acme", "policy")
    with pytest.raises(BudgetExceeded):
        budgeted_llm.completion(ask("#q"))

    with valkey.client() as redis:
        (key,) = redis.scan_iter("llmq:budget:acme:*")
        redis.hset(key, "spent", 0)
    rebuilt = llm_queue("budgets", "rebuild", "acme")
    assert rebuilt.exit_code == 0, rebuilt
    (row,) = json.loads(llm_queue("budgets", "list", "--json").out)
    assert row["spent"] == 0.04, "the books know four calls"

    body, signature = POSTED.get(timeout=15)
    told = json.loads(body)
    assert (told["budget"], told["percent"], told["spent"], told["limit"]) == ("acme", 50, 0.02, 0.035)
    assert told["of"] == "all"
    at, _, digest = signature.removeprefix("t=").partition(",v1=")
    key = KeyRing.parse(KEY).alert_key
    assert digest == hmac.new(key, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
    assert POSTED.empty()
    seen = [event for event in events if event["type"] == "worker-budget-alert"]
    assert [(event["budget"], event["percent"], event["spent"]) for event in seen] == [("acme", 50, 0.02)]
    assert "The budget acme (day-" in budgeted.logs()
    shown = wait_until(lambda: _shown(Scrape.of(METRICS_PORT)), 15, "the metrics to show it")
    assert shown == (0.04, 0.035, 1)


def _shown(scrape: Scrape) -> tuple[float, float, float] | None:
    labels = {"budget": "acme", "unit": "usd"}
    spent = scrape.value("llm_queue_budget_spent", **labels)
    if spent < 0.04:
        return None
    alerts = scrape.value("llm_queue_budget_alerts_total", budget="acme", percent="50")
    return spent, scrape.value("llm_queue_budget_limit", **labels), alerts


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("set", "nonsense", "5"), "'nonsense' is no budget in use"),
        (("rebuild", "nonsense"), "'nonsense' is no budget in use"),
        (("history", "nonsense"), "'nonsense' is no budget in use"),
        (("set", "acme", "ten"), "'ten' is no amount"),
        (("set", "acme", "nan"), "'nan' is no amount"),
        (("set", "acme", "-1"), ""),
    ],
)
def test_what_makes_no_sense_is_refused(
    llm_queue: LlmQueue, arguments: tuple[str, ...], complaint: str
) -> None:
    ran = llm_queue("budgets", *arguments)
    assert ran.exit_code in (1, 2)
    assert complaint in ran.err


def test_what_the_books_cannot_tell_is_not_counted_anew(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_QUEUE_BUDGETS", json.dumps([{**BUDGET, "unpriced": 0.001}]))
    ran = llm_queue("budgets", "rebuild", "acme")
    assert ran.exit_code == 1
    assert "the books know no cost of models without a price: 'acme'" in ran.err
