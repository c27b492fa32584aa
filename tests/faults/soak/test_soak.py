"""A minute of the soak; `make soak` runs it for longer, with other seeds."""

import pytest

from faults.soak.soak import soak


@pytest.mark.timeout(300)
def test_a_minute_of_everything() -> None:
    report = soak(60, seed="ci")
    assert report.violations == [], str(report)
    assert report.total("answered") > 100
    assert report.faults.total() > 20


@pytest.mark.timeout(300)
def test_everything_with_backlogs_and_the_shortest_window() -> None:
    report = soak(60, seed="window", ready_window=16)
    assert report.violations == [], str(report)
    assert report.total("answered") > 100
    assert report.rounds_with_turns > 0, "nothing waited in turn: this test tests nothing"
