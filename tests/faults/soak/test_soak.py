"""A minute of the soak; `make soak` runs it for longer, with other seeds."""

import pytest

from faults.soak.soak import soak


@pytest.mark.timeout(300)
def test_a_minute_of_everything() -> None:
    report = soak(60, seed="ci")
    assert report.violations == [], str(report)
    assert report.total("answered") > 100
    assert report.faults.total() > 20
