"""The Celery app an operator names: `celery -A rustic_ai.llm_queue.worker.app worker`."""

from __future__ import annotations

from .pool.sigterm import end_on_sigterm

# First, because the other imports take a second in which a signal could be lost.
end_on_sigterm()

from rustic_ai.llm_queue.tasks.exit_code import ExitCode  # noqa: E402
from rustic_ai.llm_queue.tasks.settings import SettingsError  # noqa: E402

from .celery_app.factory import make_worker_app  # noqa: E402
from .celery_app.start import refuse  # noqa: E402
from .settings import WorkerSettings  # noqa: E402

try:
    app = make_worker_app(WorkerSettings())
except SettingsError as error:
    refuse(str(error), ExitCode.SETTINGS)
