"""The benchmark's quick form: it fails on a broken contender or a wrong answer, never for being slow."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.mark.timeout(300)
def test_every_measure_brings_figures(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--quick", "--out", str(tmp_path)]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=280)
    assert run.returncode == 0, run.stderr[-3000:]
    figures = json.loads((tmp_path / "results.json").read_text())["figures"]
    assert set(figures) == {"saturation", "latency", "streams", "in_flight", "round_trips", "backlog"}
    for measure, contenders in figures.items():
        assert contenders["llm-queue, 1 worker"], f"{measure} measured nothing of ours"
    assert "calls/s, one worker / SDK" in run.stdout
    assert (tmp_path / "results.svg").read_text().startswith("<svg")
