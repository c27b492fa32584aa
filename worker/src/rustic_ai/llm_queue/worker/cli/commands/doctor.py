from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import asdict
from functools import partial

import click
from kombu.exceptions import OperationalError
from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError
from rich.table import Table
from rich.text import Text

from rustic_ai.llm_queue.tasks.exit_code import ExitCode
from rustic_ai.llm_queue.tasks.privacy.printable import printable
from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...broker.app import make_celery_app
from ...doctor.finding import Finding, bad, doubtful, good
from ...doctor.queue_checks import check_queue, seen_models
from ...doctor.redis_checks import check_server
from ...doctor.worker_checks import ask_workers, check_workers
from ..output import json_option, notes, out, print_json
from ..redis_session import on_redis
from ..redis_trouble import redis_trouble

_SIGNS = {"ok": "[green]ok[/]", "warning": "[yellow]warning[/]", "failure": "[red]failure[/]"}


@click.command()
@click.option("--model", "models", multiple=True,
              help="A model that has to be callable; by default those seen in the last week.")  # fmt: skip
@json_option
def doctor(models: tuple[str, ...], as_json: bool) -> None:
    """Look whether everything is as it should be, and say how to mend what is not.

    Exits with 1 when there is a failure; warnings are no failure. With Redis away it exits with 4.
    """
    settings = QueueSettings()
    findings: list[Finding] = []
    try:
        with notes.status("looking at Redis"):
            server, seen = on_redis(partial(_look_at_redis, models=models), settings)
            findings += server
        with notes.status("asking the workers"):
            findings += _look_at_workers(settings, seen)
    except RedisError as error:
        says, _, mend = redis_trouble(error, settings.redis_url).partition(": ")
        findings.append(bad("redis", says, mend))
        _print(findings, as_json)
        sys.exit(ExitCode.REDIS)
    _print(findings, as_json)
    if any(finding.verdict == "failure" for finding in findings):
        sys.exit(ExitCode.FAILED)


async def _look_at_redis(
    redis: Redis, settings: QueueSettings, *, models: tuple[str, ...]
) -> tuple[list[Finding], list[str] | None]:
    """What was found, and the models to ask about; None where those seen may not be read."""
    findings = await check_server(redis, settings)
    try:
        findings += await check_queue(redis, settings)
        return findings, list(models) or await seen_models(redis)
    except NoPermissionError:
        # What is missing is among the findings already.
        return findings, list(models) or None


def _look_at_workers(settings: QueueSettings, seen: list[str] | None) -> list[Finding]:
    models = seen or []
    app = make_celery_app(settings)
    try:
        findings = check_workers(ask_workers(app, models), models, settings)
    except (RedisError, OperationalError) as error:
        mend = "run doctor as a user who may send Celery's remote commands, as the ACL in docker/ has one"
        return [doubtful("workers", f"they cannot be asked: {error}", mend)]
    finally:
        app.close()
    if seen is None:
        findings.append(
            doubtful("models", "those seen are not this user's to read", "name some with --model")
        )
    elif not models:
        findings.append(good("models", "none seen yet; name some with --model"))
    return findings


def _print(findings: Iterable[Finding], as_json: bool) -> None:
    if as_json:
        print_json([asdict(finding) for finding in findings])
        return
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        says = Text(printable(finding.says))
        if finding.mend:
            says.append(f"\n{printable(finding.mend)}", style="dim")
        table.add_row(_SIGNS[finding.verdict], Text(printable(finding.check), style="bold"), says)
    out.print(table)
