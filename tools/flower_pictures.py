"""Takes the pictures of Flower that the pages show, and presses its buttons on the way: `make screenshots`.

Needs Chromium. Everything else is started here: a server, a worker, a provider simulator and Flower.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from rustic_ai.llm_queue.resolver import JobHandle, QueueLLMResolver
from support.callers.llm import ask
from support.processes.browser import Browser
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step
from support.servers.flower import FlowerProcess
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess

LIMIT = 16
PICTURES = ROOT / "docs" / "images"
#: Guild, agent, model, what the provider does, prompt and completion tokens.
CALLS = (
    ("helpdesk", "triage", "openai/gpt-4o-mini", "ok", 1_840, 212),
    ("helpdesk", "answerer", "openai/gpt-4o", "retried", 5_310, 640),
    ("research", "reader", "anthropic/claude-haiku-4-5", "ok", 11_020, 905),
    ("research", "writer", "gemini/gemini-2.5-flash", "ok", 7_650, 1_480),
    ("billing", "auditor", "openai/gpt-4o-mini", "refused", 990, 0),
    ("helpdesk", "answerer", "openai/gpt-4o", "ok", 2_204, 318),
    ("research", "reader", "openai/gpt-4o-mini", "held", 8_412, 0),
    ("helpdesk", "triage", "anthropic/claude-haiku-4-5", "held", 1_360, 0),
    ("billing", "auditor", "openai/gpt-4o", "terminated", 2_780, 0),
)


@contextmanager
def scene() -> Iterator[tuple[FlowerProcess, dict[str, JobHandle], ProviderStub, str]]:
    with ValkeyServer() as server, ProviderStub() as provider:
        os.environ["LLM_QUEUE_REDIS_URL"] = server.url
        settings = {"LLM_QUEUE_REDIS_URL": server.url, "LLM_QUEUE_CONCURRENCY": str(LIMIT), **provider.env()}
        with (
            WorkerProcess(settings, nodename="worker-1@llm-queue") as worker,
            FlowerProcess({"LLM_QUEUE_REDIS_URL": server.url}) as flower,
        ):
            wait_until(lambda: flower.get("/api/workers").json(), 20, "Flower to see the worker")
            yield flower, dict(_calls(provider)), provider, worker.nodename


def _calls(provider: ProviderStub) -> Iterator[tuple[str, JobHandle]]:
    for number, (guild, agent, model, fate, prompt, completion) in enumerate(CALLS):
        tag = f"call{number}"
        answer = Step(
            text="ok",
            first_token_delay_s=0.3,
            prompt_tokens=prompt or None,
            completion_tokens=completion or None,
        )
        steps = {
            "retried": [Step(status=503), answer],
            "refused": [provider.bad_key(model.partition("/")[0])],
            "held": [Step(hold=True)],
            "terminated": [Step(hold=True)],
        }.get(fate, [answer])
        provider.plan(tag, *steps)
        llm = QueueLLMResolver(model=model).resolve("acme", guild, agent)
        handle = llm.submit(ask("Dear all, " * (prompt // 3) + f"#{tag}"))
        if fate in ("held", "terminated"):
            provider.wait_for_requests(1, tag)
        else:
            wait_until(lambda handle=handle: handle.status().final, 20, f"the end of {tag}")  # type: ignore[misc]
        yield fate, handle


def main() -> None:
    """Take the pictures. Raises `AssertionError` when a page or a button does not do what it should."""
    with scene() as (flower, handles, provider, worker), Browser(width=1720, height=820) as browser:
        browser.sign_in(*flower.auth.split(":", 1))
        _terminate(browser, flower, handles["terminated"], provider)
        browser.open(f"{flower.url}/tasks")
        browser.wait_for(f"document.querySelectorAll('#tasks-table tbody tr').length === {len(CALLS)}")
        browser.screenshot(PICTURES / "flower-jobs.png", height=_height(browser))
        browser.open(f"{flower.url}/task/{handles['retried'].id}")
        browser.screenshot(PICTURES / "flower-job.png", height=_height(browser))
        _fill_up(provider)
        # Flower shows what it knew, and asks the worker for the next time.
        wait_until(
            lambda: f">{LIMIT}<" in _page(browser, f"{flower.url}/worker/{worker}"), 15, "a busy worker"
        )
        browser.screenshot(PICTURES / "flower-worker.png", height=740)
        browser.open(f"{flower.url}/workers")
        browser.wait_for("document.querySelector('#workers-table tbody').innerText.includes('Online')")
        browser.screenshot(PICTURES / "flower-workers.png", height=580)
        browser.open(f"{flower.url}/broker")
        browser.screenshot(PICTURES / "flower-queues.png", height=460)


def _fill_up(provider: ProviderStub) -> None:
    """As many calls as the worker takes, and some that wait behind them."""
    provider.plan("busy", Step(hold=True, times=None))
    for number in range(LIMIT + 5):
        llm = QueueLLMResolver(model="openai/gpt-4o-mini", priority=6 if number % 4 == 3 else 0)
        llm.resolve("acme", "research", "reader").submit(ask(f"document {number} #busy"))
    provider.wait_for_requests(LIMIT - 2, "busy")


def _height(browser: Browser) -> int:
    """Of the whole page, in CSS pixels."""
    return int(browser.evaluate("document.documentElement.scrollHeight"))


def _page(browser: Browser, url: str) -> str:
    browser.open(url)
    return str(browser.evaluate("document.body.innerHTML"))


def _terminate(browser: Browser, flower: FlowerProcess, handle: JobHandle, provider: ProviderStub) -> None:
    page = f"{flower.url}/task/{handle.id}"
    wait_until(lambda: "task-terminate" in flower.get(f"/task/{handle.id}").text, 15, "the button")
    browser.open(page)
    browser.evaluate("document.querySelector('#task-terminate').click()")
    browser.wait_for("document.querySelector('#toast-container').innerText.includes('Revoked')")
    (request,) = provider.wait_for(lambda seen: not seen[0].open, f"call{len(CALLS) - 1}")
    assert request.client_closed, "Terminate closes the provider's connection"
    wait_until(lambda: '"attempts": 1' in flower.get(f"/api/task/info/{handle.id}").text, 15, "its account")


if __name__ == "__main__":
    main()
