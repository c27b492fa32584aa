"""Alert rules and the dashboard: every query parses, and asks for metrics that workers have."""

import re
from typing import Any

import promql_parser
import pytest

from support.documents.deployment import DOCKER, compose, dashboard, documents

RULES: list[dict[str, Any]] = documents("prometheus/alerts.yml")[0]["groups"][0]["rules"]
#: Grafana's own variables, as they may stand in a query.
VARIABLES = {"$__rate_interval": "5m", "$model": ".*", "$instance": ".*"}
#: Prometheus' own, and of a process.
NOT_OURS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def _panels() -> list[dict[str, Any]]:
    return [panel for panel in dashboard()["panels"] if panel["type"] != "row"]


def _queries() -> list[str]:
    panels = [target["expr"] for panel in _panels() for target in panel["targets"]]
    return [rule["expr"] for rule in RULES] + panels


def _filled(query: str) -> str:
    for name, value in VARIABLES.items():
        query = query.replace(name, value)
    return query


def _documented() -> set[str]:
    page = (DOCKER.parent / "docs" / "metrics.md").read_text()
    names = set(re.findall(r"^\| `(llm_queue_\w+)` \|", page, re.MULTILINE))
    histograms = re.findall(r"^\| `(llm_queue_\w+)` \| histogram", page, re.MULTILINE)
    return names | {f"{name}_{part}" for name in histograms for part in ("bucket", "count", "sum")}


@pytest.mark.parametrize("query", _queries())
def test_the_query_parses_and_asks_for_what_there_is(query: str) -> None:
    promql_parser.parse(_filled(query))
    asked = set(re.findall(r"\b(llm_queue_\w+|process_\w+|up)\b(?=[{\[)\s=/]|$)", query))
    assert asked
    assert asked <= _documented() | NOT_OURS


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule["alert"])
def test_the_alert_says_what_is_wrong_and_what_to_do(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in ("critical", "warning", "info")
    assert len(rule["annotations"]["summary"]) > 20
    assert len(rule["annotations"]["description"]) > 60


def test_every_metric_is_on_the_dashboard() -> None:
    shown = " ".join(_queries())
    missing = {name for name in _documented() if name not in shown and not name.endswith(("_sum", "_count"))}
    assert not {name for name in missing if f"{name}_bucket" not in shown}


def test_the_rules_have_tests_of_their_own() -> None:
    (tests,) = documents("prometheus/alerts_test.yml")
    assert tests["rule_files"] == ["alerts.yml"]
    assert len(tests["tests"]) >= 4


def test_panels_have_a_title_and_a_sentence_and_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in dashboard()["panels"]:
        place = panel["gridPos"]
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken, panel["title"]
        assert place["x"] + place["w"] <= 24
        taken |= cells
    assert all(panel["title"] and panel["description"] for panel in _panels())
    identities = [panel["id"] for panel in dashboard()["panels"]]
    assert len(identities) == len(set(identities))


def test_grafana_finds_the_dashboard_and_the_data() -> None:
    (sources,) = documents("grafana/provisioning/datasources/prometheus.yaml")
    (source,) = sources["datasources"]
    assert source["url"] == "http://prometheus:9090"
    assert "prometheus" in compose()["services"]
    (variable,) = [one for one in dashboard()["templating"]["list"] if one["type"] == "datasource"]
    assert variable["current"]["value"] == source["uid"]
    (providers,) = documents("grafana/provisioning/dashboards/llm-queue.yaml")
    folder = providers["providers"][0]["options"]["path"]
    mounts = compose()["services"]["grafana"]["volumes"]
    assert any(mount.startswith("./grafana/dashboard.json:" + folder) for mount in mounts)


def test_every_panel_is_drawn_from_its_own_query(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCKER.parent / "tools"))
    from dashboard_page import page
    from dashboard_pictures import ROWS, by_picture

    asked: list[str] = []

    def ask(query: str) -> list[dict[str, Any]]:
        asked.append(query)
        labels = {"model": "<m>", "outcome": "answered", "instance": "worker-1"}
        # A gap, and a value that is none, as Prometheus gives for 0 / 0.
        return [{"metric": labels, "values": [(10, "1"), (12, "0.5"), (14, "NaN"), (30, "2e6")]}]

    times = {"start_s": 10.0, "end_s": 40.0, "step_s": 2.0}
    drawn = "".join(page(panels, ask, times=times, caption="not Grafana") for panels in by_picture().values())
    assert sorted(asked) == sorted(target["expr"] for panel in _panels() for target in panel["targets"])
    for panel in dashboard()["panels"]:
        assert f">{panel['title']}<" in drawn
    assert drawn.count("<svg") == len(_panels())
    assert drawn.count("not Grafana") == len(ROWS)
    assert "<m>" not in drawn
    assert "&lt;m&gt;" in drawn


def test_what_a_panel_shows_is_what_was_answered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(DOCKER.parent / "tools"))
    from panel_chart import Frame, Line, chart, shown

    frame = Frame(width=568, height=228, start_s=0, end_s=10, step_s=2)
    lines = [Line.of("a", [(0, "2"), (2, "4"), (8, "4"), (10, "4")]), Line.of("b", [(0, "1")])]
    flat = chart(lines, frame, unit="short", stacked=False, opacity=0.1)
    # 500 by 200 pixels from (58, 8) on, and 4 the highest of its marks.
    assert 'points="58.0,108.0 158.0,8.0"' in flat
    assert 'points="458.0,8.0 558.0,8.0"' in flat, "apart: nothing was answered between"
    stacked = chart(lines, frame, unit="short", stacked=True, opacity=0.1)
    assert 'points="58.0,58.0"' in stacked, "upon the other"
    units = [("percentunit", "25%"), ("s", "250 ms"), ("ops", "0.25/s"), ("currencyUSD", "$0.25")]
    assert [shown(0.25, unit) for unit, _ in units] == [text for _, text in units]
    assert shown(3 * 2**20, "bytes") == "3 MiB"
