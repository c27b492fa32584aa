from __future__ import annotations

import sys
from typing import Any

import click

from ...pool.sigterm import end_on_sigterm


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("-c", "--concurrency", type=click.IntRange(1, 100_000), help="Calls in flight in this process.")
@click.option("-n", "--name", help="Node name, unique among the workers; `%h` stands for the host.")
@click.option(
    "-l", "--log-level", type=click.Choice(["DEBUG", "INFO", "WARNING", "ERROR"], case_sensitive=False)
)
@click.argument("celery_args", nargs=-1, type=click.UNPROCESSED)
def worker(
    concurrency: int | None, name: str | None, log_level: str | None, celery_args: tuple[str, ...]
) -> None:
    """Run a worker. Further arguments go to `celery worker` as they are."""
    end_on_sigterm()
    from celery.bin.celery import celery

    from ...celery_app.factory import make_worker_app
    from ...settings import WorkerSettings

    level = log_level.upper() if log_level else None
    given: dict[str, Any] = {"concurrency": concurrency, "log_level": level}
    settings = WorkerSettings(**{key: value for key, value in given.items() if value is not None})
    app = make_worker_app(settings)
    # Celery's banner is no JSON.
    quiet = ["--quiet"] if settings.log_format == "json" else []
    argv = [*quiet, "worker", "--loglevel", settings.log_level, "--without-gossip", "--without-mingle"]
    if name:
        argv += ["--hostname", name]
    # As `app.worker_main` does it, which keeps the exit code to itself.
    celery.params[0].default = app
    sys.exit(celery.main(args=[*argv, *celery_args], prog_name="llm-queue", standalone_mode=False))
