"""`[fair_share]` of the policy file: what is wrong is refused by field and value."""

from pathlib import Path
from typing import Any

import pytest

from rustic_ai.llm_queue.tasks.policy.fair_share import FairShare, parse_fair_share
from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.settings import WorkerSettings


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ({"weights": {"acme": 0}}, r"weights.acme 0: input should be greater than 0"),
        ({"weights": {"acme/g": -1}}, r"weights.acme/g -1: "),
        ({"weights": {"acme": 1_001}}, r"weights.acme 1001: input should be less than or equal to 1000"),
        ({"weights": {"acme": float("nan")}}, r"weights.acme nan: input should be a finite number"),
        ({"weights": {"acme": "much"}}, r"weights.acme 'much': "),
        ({"weights": 4}, r"weights 4: "),
        ({"ready_window": 15}, r"ready_window 15 is below 16, which one worker takes at once"),
        (
            {"reserve": 1},
            r"reserve must be a part of a worker's places, from 0 to 0.9 \(0.1 is a tenth\), not 1",
        ),
        ({"reserve": -0.1}, r"reserve .*not -0.1"),
        ({"reserve": float("nan")}, r"reserve .*not nan"),
        ({"reserve": "10%"}, r"reserve .*not '10%'"),
        ({"reserve": True}, r"reserve .*not True"),
        ({"cost": "words"}, r"cost 'words': input should be 'tokens' or 'jobs'"),
        ({"ageing": "0s"}, r"ageing 0:00:00: "),
        ({"wieghts": {}}, r"wieghts is not known here; there are weights, cost, ready_window, ageing"),
        ([], r"fair_share is a table"),
    ],
)
def test_what_is_wrong_is_named(table: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        parse_fair_share(table)


def test_a_guild_that_nobody_knows_may_come(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    policy = tmp_path / "policy.toml"
    policy.write_text('[fair_share]\nweights = {acme = 4, "acme/unheard-of" = 2, "*" = 1}\n')
    monkeypatch.setenv("LLM_QUEUE_POLICY", str(policy))
    assert WorkerSettings().fair_share == FairShare(weights={"acme": 4, "acme/unheard-of": 2, "*": 1})
    policy.write_text("[fair_share]\nweights = {acme = 0}\n")
    with pytest.raises(SettingsError, match=r"LLM_QUEUE_FAIR_SHARE: \[fair_share\]: weights.acme 0: "):
        WorkerSettings()
