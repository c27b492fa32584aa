from __future__ import annotations

from celery import Celery

from ..broker.app import make_celery_app
from ..pool.pool import CANCEL_TIMEOUT_CONF, DRAIN_TIMEOUT_CONF
from ..provider.key_files import read_provider_keys
from ..settings import WorkerSettings
from ..telemetry.log_format import LogFormat
from . import worker_check  # noqa: F401  # importing it makes Celery know doctor's command
from .boot import add_steps
from .broker_info import hide_broker_secrets
from .bulk_pop import take_in_batches
from .event_batching import gather_events
from .log_signals import NoBanner, watch_loggers
from .result_reader import result_backend
from .start import EarlyEnd
from .task import RunJob


def make_worker_app(settings: WorkerSettings) -> Celery:
    """The Celery app of a worker with these settings, whose files of providers' keys are read here."""
    read_provider_keys(settings.provider_keys_file)
    app = make_celery_app(
        settings,
        result_backend=result_backend(settings.redis_url, settings.key_tag),
        worker_pool="rustic_ai.llm_queue.worker.pool.pool:AsyncPool",
        worker_concurrency=settings.concurrency,
        # Wake-ups beyond the pool's limit stay in Redis, where another worker can take them.
        worker_disable_prefetch=True,
        worker_prefetch_multiplier=1,
        # Flower needs the events; they carry no argument, answer or secret.
        worker_send_task_events=True,
        worker_hijack_root_logger=True,
        worker_redirect_stdouts=False,
        **{
            DRAIN_TIMEOUT_CONF: settings.drain.total_seconds(),
            CANCEL_TIMEOUT_CONF: (settings.hard_stop - settings.drain).total_seconds(),
        },
    )
    watch_loggers(app, LogFormat(settings))
    app.register_task(RunJob())
    add_steps(app, settings)
    EarlyEnd().watch(app)
    if settings.log_format == "json":
        NoBanner().watch(app)
    take_in_batches(app)
    gather_events(app)
    hide_broker_secrets(app)
    return app
