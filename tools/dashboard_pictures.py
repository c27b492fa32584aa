"""Takes the pictures of the dashboard and of `llm-queue top`, under load: part of `make screenshots`.

Needs Prometheus and Chromium. Grafana is not there: the panels are drawn here, each from what a real
Prometheus, which scraped real workers, answers to the panel's own query.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from dashboard_page import COLUMN, ROW, page
from support.processes.browser import Browser
from support.processes.scratch import scratch_dir
from support.processes.terminal import TerminalProcess
from support.providers.provider import ProviderStub
from support.servers.ports import free_port
from support.servers.prometheus import PrometheusServer
from support.servers.valkey import ValkeyServer
from support.workers.worker import WorkerProcess
from terminal_picture import save_terminal
from traffic import RUSH_AFTER_S, Traffic

PICTURES = ROOT / "docs" / "images"
DASHBOARD = ROOT / "docker" / "grafana" / "dashboard.json"
#: Each picture's rows of the dashboard, by their titles.
ROWS = {
    "dashboard-jobs.png": ("At a glance", "Jobs"),
    "dashboard-providers.png": ("Providers",),
    "dashboard-workers.png": ("Workers", "Trouble"),
    "dashboard-sharing.png": (
        *("Limits", "Fair share", "Organisations"),
        *("Answers reused", "Embeddings", "Budgets"),
    ),
}
CAPTION = (
    "Drawn by tools/dashboard_pictures.py, not by Grafana: the panels of docker/grafana/dashboard.json, "
    "each from Prometheus' answers to its own queries. Two workers, a provider simulator."
)
CONCURRENCY, SCRAPE_S, STEP_S = 10, 2, 2
#: Not so narrow that they change what the other panels show.
LIMITS = [{"name": "gpt-4o", "match": {"model": "gpt-4o"}, "rpm": 120, "max_parallel_requests": 6}]
BUDGETS = [
    {"name": name, "match": {"org": org}, "usd": usd, "period": "day", "on_exceeded": "warn"}
    for name, org, usd in (("acme-daily", "acme", 8.0), ("globex-daily", "globex", 0.5))
]
LOAD_S, KILL_AFTER_S, TOP_AFTER_S = 160.0, 95.0, RUSH_AFTER_S + 1
#: Of `top`'s terminal.
TOP_COLUMNS, TOP_LINES = 104, 36


@dataclass(frozen=True)
class Scene:
    server: ValkeyServer
    provider: ProviderStub
    workers: tuple[WorkerProcess, ...]
    prometheus: PrometheusServer


@contextmanager
def scene() -> Iterator[Scene]:
    ports = {"worker-1": free_port(), "worker-2": free_port()}
    rules = ROOT / "docker" / "prometheus" / "alerts.yml"
    with (
        ValkeyServer() as server,
        ProviderStub() as provider,
        PrometheusServer(ports, rules=rules, every_s=SCRAPE_S) as prometheus,
    ):
        os.environ["LLM_QUEUE_REDIS_URL"] = server.url
        settings = {
            "LLM_QUEUE_REDIS_URL": server.url,
            "LLM_QUEUE_CONCURRENCY": str(CONCURRENCY),
            # Shorter than anybody's, so that a lost worker's jobs are taken over within the picture.
            "LLM_QUEUE_LEASE": "6s",
            "LLM_QUEUE_BEAT": "2s",
            "LLM_QUEUE_LIMITS": json.dumps(LIMITS),
            "LLM_QUEUE_BUDGETS": json.dumps(BUDGETS),
            **provider.env(),
        }
        workers = tuple(
            WorkerProcess({**settings, "LLM_QUEUE_METRICS_PORT": str(port)}, nodename=f"{name}@llm-queue")
            for name, port in ports.items()
        )
        try:
            for worker in workers:
                worker.start()
            yield Scene(server, provider, workers, prometheus)
        finally:
            for worker in workers:
                worker.kill()


def main() -> None:
    """Take the pictures."""
    with scene() as now:
        traffic = Traffic(now.provider, LOAD_S)
        load = threading.Thread(target=traffic.run, name="load")
        started_s, began = time.time(), time.monotonic()
        load.start()
        with now.server.client() as client:
            client.lpush("llm", "no message of Celery's")
        _sleep_until(began + TOP_AFTER_S)
        _picture_of_top()
        _sleep_until(began + KILL_AFTER_S)
        now.workers[1].restart()
        load.join()
        traffic.check()
        times = {"start_s": started_s - 6, "end_s": time.time(), "step_s": STEP_S}
        _pictures_of_panels(now.prometheus, times)


def _picture_of_top() -> None:
    command = [sys.executable, "-m", "rustic_ai.llm_queue.worker.cli", "top", "--interval", "1"]
    with TerminalProcess(command, columns=TOP_COLUMNS, rows=TOP_LINES) as top:
        screen = top.read_until(lambda seen: "worker-2" in seen and "USD/min" in seen, 30)
    save_terminal(screen, PICTURES / "top.svg", title="llm-queue top", columns=TOP_COLUMNS)


def _pictures_of_panels(prometheus: PrometheusServer, times: dict[str, float]) -> None:
    # As Grafana counts it: four scrapes.
    variables = {"$__rate_interval": f"{4 * SCRAPE_S}s", "$model": ".*", "$instance": ".*"}

    def ask(query: str) -> list[dict[str, Any]]:
        for name, value in variables.items():
            query = query.replace(name, value)
        return prometheus.query_range(query, **times)

    directory = scratch_dir("dashboard")
    for name, panels in by_picture().items():
        html = directory / f"{name}.html"
        html.write_text(page(panels, ask, times=times, caption=CAPTION), encoding="utf-8")
        lines = {panel["gridPos"]["y"] + panel["gridPos"]["h"] for panel in panels}
        height = (max(lines) - min(panel["gridPos"]["y"] for panel in panels)) * ROW + 30
        with Browser(width=24 * COLUMN + 8, height=height) as browser:
            browser.open(html.as_uri())
            browser.screenshot(PICTURES / name)


def by_picture() -> dict[str, list[dict[str, Any]]]:
    """The dashboard's panels, by the picture in which they are."""
    panels: list[dict[str, Any]] = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    row, found = "", {name: list[dict[str, Any]]() for name in ROWS}
    for panel in sorted(panels, key=lambda panel: (panel["gridPos"]["y"], panel["gridPos"]["x"])):
        row = panel["title"] if panel["type"] == "row" else row
        (picture,) = [name for name, titles in ROWS.items() if row in titles]
        found[picture].append(panel)
    return found


def _sleep_until(moment: float) -> None:
    time.sleep(max(moment - time.monotonic(), 0))


if __name__ == "__main__":
    main()
