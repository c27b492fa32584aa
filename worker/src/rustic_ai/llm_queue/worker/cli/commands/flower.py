from __future__ import annotations

import os
import secrets
from typing import Any

import click

from rustic_ai.llm_queue.tasks.policy.private_hosts import is_loopback

from ...celery_app.start import check_mode
from ...pool.sigterm import end_on_sigterm
from ..output import echo


@click.command(context_settings={"ignore_unknown_options": True})
@click.option("--address", help="Where to listen; 127.0.0.1 unless LLM_QUEUE_FLOWER_ADDRESS says otherwise.")
@click.option("--port", type=click.IntRange(0, 65_535), help="0 takes a free one; 5555 by default.")
@click.argument("flower_args", nargs=-1, type=click.UNPROCESSED)
def flower(address: str | None, port: int | None, flower_args: tuple[str, ...]) -> None:
    """Run Flower: jobs, workers and queues in a browser, behind a password.

    LLM_QUEUE_FLOWER_AUTH (or the file that LLM_QUEUE_FLOWER_AUTH_FILE names) holds `user:password`;
    without it a password is made up and shown once. Further arguments go to Flower as they are, such
    as --read-only, --url-prefix=flower or --certfile and --keyfile.
    """
    end_on_sigterm()
    try:
        from ...flower_app.server import FlowerServer
    except ImportError as error:
        raise click.ClickException(
            f"Flower is not installed ({error.name}): pip install 'rusticai-llm-queue[flower]'"
        ) from None
    from ...flower_app.settings import FlowerSettings

    given: dict[str, Any] = {"flower_address": address, "flower_port": port}
    settings = FlowerSettings(**{key: value for key, value in given.items() if value is not None})
    check_mode(settings.redis_url, settings.key_tag)
    basic_auth = settings.basic_auth()
    if basic_auth is None:
        basic_auth = f"operator:{secrets.token_urlsafe(18)}"
        # Not to the log, which is kept.
        echo(f"Flower's user and password until it stops: {basic_auth}", err=True)
    # Ours is the only way in.
    os.environ.pop("FLOWER_UNAUTHENTICATED_API", None)
    server = FlowerServer(settings, basic_auth, flower_args)
    if not server.encrypted and not is_loopback(settings.flower_address):
        echo(
            f"Flower listens on {settings.flower_address} without TLS: whoever can listen in on the way "
            "learns its password.",
            err=True,
        )
    server.run()
