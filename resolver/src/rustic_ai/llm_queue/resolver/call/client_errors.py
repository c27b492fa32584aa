from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from rustic_ai.llm_queue.tasks.settings import SettingsError

from ..client.errors import QueueGone, SubmitConflict
from ..configuration_error import WrongSetting
from ..exceptions import IdempotencyConflict, QueueUnavailable


@contextmanager
def client_errors(*, job_id: str | None = None, model: str | None = None) -> Iterator[None]:
    """Raises an engine's errors as the `QueueError` that callers know, or as `ConfigurationError`.

    Args:
        job_id: the job in question, where there may be one.
        model: the model that was asked for.
    """
    try:
        yield
    except QueueGone as error:
        raise QueueUnavailable(str(error), job_id=job_id, model=model) from None
    except SubmitConflict as error:
        raise IdempotencyConflict(str(error), model=model) from None
    except SettingsError as error:
        raise WrongSetting(f"the environment's settings: {error}") from None
