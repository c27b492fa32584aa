from __future__ import annotations

import click
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ...broker.quarantine import QuarantinedMessage, quarantined
from ..job_table import moment
from ..listing import counted, listing
from ..output import json_option, note_left_out, out, print_json
from ..redis_session import on_redis
from .jobs import LIMIT


@click.group()
def quarantine() -> None:
    """Messages on the queue that no worker would take."""


@quarantine.command("list")
@LIMIT
@json_option
def list_(limit: int, as_json: bool) -> None:
    """What was put aside and why, the latest first; never what is in it."""

    async def read(redis: Redis, _: QueueSettings) -> tuple[list[QuarantinedMessage], int]:
        return await quarantined(redis, limit)

    messages, unreadable = on_redis(read, QueueSettings())
    note_left_out(unreadable)
    if as_json:
        print_json([one.model_dump(mode="json", exclude={"body_base64"}) for one in messages])
        return
    shown = [
        (moment(one.received_at_ms), one.queue, f"{one.size:,}", one.sha256[:16], one.reason)
        for one in messages
    ]
    title = counted(len(messages), "quarantined message")
    out.print(listing(title, ("received", "queue", "bytes", "sha256", "reason"), shown))
