from __future__ import annotations

import logging
import os
import signal
from collections.abc import Sequence
from types import FrameType
from typing import Any

import click
from flower.command import extract_settings, setup_logging
from flower.options import options
from flower.urls import settings as tornado_settings
from tornado.options import Error as OptionError

from rustic_ai.llm_queue.tasks.privacy.printable import printable
from rustic_ai.llm_queue.tasks.settings import SettingsError

from ..broker.app import make_celery_app
from .app import JobFlower
from .settings import FlowerSettings

#: Flower's options that would undo what is safe here: other ways in, and code or a pickle from a file.
_REFUSED = ("basic_auth", "conf", "persistent", "db", "address", "port", "unix_socket", "debug")
_JOBS_IN_MEMORY = 20_000
_GONE_WORKER_S = 3_600


class FlowerServer:
    """Flower's web server in this process, behind basic authentication.

    Args:
        basic_auth: `user:password`, the only one that is let in.
        arguments: more of Flower's own options, as on its command line.
    """

    def __init__(self, settings: FlowerSettings, basic_auth: str, arguments: Sequence[str] = ()) -> None:
        self._settings = settings
        # No result backend: Flower would show the answers that lie there.
        self._celery = make_celery_app(settings)
        options.max_tasks = _JOBS_IN_MEMORY
        options.purge_offline_workers = _GONE_WORKER_S
        _parse(arguments)
        options.basic_auth = [basic_auth]
        options.address, options.port = settings.flower_address, settings.flower_port

    @property
    def encrypted(self) -> bool:
        return bool(options.certfile)

    def run(self) -> None:
        """Serve until SIGTERM or SIGINT. Raises `OSError` when the port is taken."""
        extract_settings()
        setup_logging()
        queue = self._settings
        app = JobFlower(self._celery, queue.redis_url, queue.key_tag, options, **tornado_settings)
        try:
            port = app.start_http_server()
        except OSError as error:
            place = f"{options.address}:{options.port}"
            raise click.ClickException(f"Flower cannot listen on {place}: {error.strerror}") from None
        scheme = "https" if self.encrypted else "http"
        place = f"{scheme}://{options.address}:{port}/{options.url_prefix or ''}"
        click.echo(printable(f"Flower is at {place}"), err=True)

        def leave(_number: int, _frame: FrameType | None) -> None:
            app.io_loop.add_callback_from_signal(app.stop)

        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, leave)
        app.start()
        # A worker's figures that are being asked for would hold up the end for as long as Redis is away.
        logging.shutdown()
        os._exit(0)


def _parse(arguments: Sequence[str]) -> None:
    for argument in arguments:
        name = argument.lstrip("-").partition("=")[0].replace("-", "_")
        if name in _REFUSED:
            raise SettingsError(f"Flower's option {argument.partition('=')[0]} is not taken here; see --help")
    try:
        left: list[Any] = options.parse_command_line(["llm-queue flower", *arguments], final=False)
    except OptionError as error:
        raise SettingsError(f"Flower's options: {error}") from None
    if left:
        raise SettingsError(f"Flower takes no argument {left[0]!r}")
