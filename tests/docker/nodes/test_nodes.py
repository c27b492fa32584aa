"""pytest-celery's cases on containers; `test_celery_setup.py` has them on processes."""

import pytest

from support.workers.celery_cases import CeleryCases

pytestmark = [pytest.mark.docker, pytest.mark.timeout(300)]


class TestOnContainers(CeleryCases):
    """The nodes are Valkey's image and the project's."""
