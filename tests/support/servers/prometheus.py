"""A real Prometheus on loopback."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import httpx

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.ports import free_port


class PrometheusServer(ChildProcess):
    """Scrapes workers, as the job `llm-queue`.

    Args:
        targets: by the name that `instance` shall have, the port on loopback.
        rules: a file of alert rules.
        every_s: seconds between two scrapes.

    Raises:
        FileNotFoundError: there is no Prometheus on the path.
    """

    def __init__(self, targets: Mapping[str, int], *, rules: Path, every_s: int) -> None:
        program = shutil.which("prometheus")
        if program is None:
            raise FileNotFoundError("no Prometheus here: install the package `prometheus`")
        directory = scratch_dir("prometheus")
        config = {
            "global": {"scrape_interval": f"{every_s}s", "evaluation_interval": f"{every_s}s"},
            "rule_files": [str(rules)],
            "scrape_configs": [
                {
                    "job_name": "llm-queue",
                    "static_configs": [
                        {"targets": [f"127.0.0.1:{port}"], "labels": {"instance": name}}
                        for name, port in targets.items()
                    ],
                }
            ],
        }
        file = directory / "prometheus.yml"
        file.write_text(json.dumps(config))  # which is YAML, too
        port = free_port()
        self._http = httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30, trust_env=False)
        command = [
            program,
            f"--config.file={file}",
            f"--storage.tsdb.path={directory / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        ]
        super().__init__(command, log_path=directory / "prometheus.log")

    def start(self) -> None:
        """Start it and wait until it answers."""
        super().start()
        wait_until(self._ready, 30, "Prometheus")

    def __exit__(self, *_: object) -> None:
        self._http.close()
        super().__exit__()

    def query_range(self, query: str, *, start_s: float, end_s: float, step_s: float) -> list[dict[str, Any]]:
        """The series that answer a query: each its labels as `metric`, and `values`."""
        asked = {"query": query, "start": str(start_s), "end": str(end_s), "step": str(step_s)}
        reply = self._http.get("/api/v1/query_range", params=asked).json()
        assert reply["status"] == "success", reply
        found: list[dict[str, Any]] = reply["data"]["result"]
        return found

    def _ready(self) -> bool:
        assert self.running, self.log_tail()
        try:
            return self._http.get("/-/ready").is_success
        except httpx.TransportError:
            return False
