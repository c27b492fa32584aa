from __future__ import annotations

import base64
import hashlib
import time
from dataclasses import dataclass
from typing import cast

import redis
from pydantic import BaseModel, ValidationError
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger.keys import QUARANTINE as QUARANTINE_KEY
from rustic_ai.llm_queue.tasks.privacy.redaction import get_logger

logger = get_logger(__name__)

DEFAULT_CAP = 1000
_MAX_BODY_BYTES = 8_000
_TTL_S = 7 * 24 * 3600


class QuarantinedMessage(BaseModel):
    """A message that no worker would take."""

    received_at_ms: int
    queue: str
    reason: str
    #: Bytes of the whole message; `body_base64` holds the first 8 kB of it.
    size: int
    sha256: str
    body_base64: str

    @classmethod
    def of(cls, body: bytes, queue: str, reason: str) -> QuarantinedMessage:
        return cls(
            received_at_ms=time.time_ns() // 1_000_000,
            queue=queue,
            reason=reason,
            size=len(body),
            sha256=hashlib.sha256(body).hexdigest(),
            body_base64=base64.b64encode(body[:_MAX_BODY_BYTES]).decode(),
        )


@dataclass(frozen=True)
class Quarantine:
    """A capped list in Redis for what cannot be delivered, newest first."""

    client: redis.Redis
    cap: int = DEFAULT_CAP

    def add(self, body: bytes, queue: str, reason: str) -> None:
        """Put a message aside and log it without its contents. Never raises for a Redis that is away."""
        message = QuarantinedMessage.of(body, queue, reason)
        logger.warning(
            "Quarantined a message on %r: %s (%d bytes, sha256 %s)",
            queue,
            reason,
            message.size,
            message.sha256[:16],
        )
        try:
            with self.client.pipeline() as pipe:
                pipe.lpush(QUARANTINE_KEY, message.model_dump_json())
                pipe.ltrim(QUARANTINE_KEY, 0, self.cap - 1)
                pipe.expire(QUARANTINE_KEY, _TTL_S)
                pipe.execute()
        except redis.RedisError as error:
            logger.error("The quarantine cannot be written: %s", type(error).__name__)

    def add_key(self, key: str) -> None:
        """Move a key that should be a list, and is not, out of the queue's way.

        Raises `redis.RedisError`.
        """
        aside = f"{QUARANTINE_KEY}:key"

        def move(pipe: redis.client.Pipeline) -> None:
            # Another worker may have moved it and a client begun a new queue: look and move in one step.
            kind = pipe.type(key)
            pipe.multi()
            if kind not in (b"list", b"none", "list", "none"):
                pipe.rename(key, aside)
                pipe.expire(aside, _TTL_S)

        moved = self.client.transaction(move, key)
        if moved:
            self.add(b"", key, "key is not a list; moved to " + aside)


async def quarantined(client: Redis, most: int) -> tuple[list[QuarantinedMessage], int]:
    """At most `most` of the messages that no worker would take, the latest first, and how many entries
    of the list are none.

    Raises redis-py's `RedisError`.
    """
    listed = cast("list[str]", await client.lrange(QUARANTINE_KEY, 0, most - 1))
    messages = [message for one in listed if (message := _parsed(one)) is not None]
    return messages, len(listed) - len(messages)


def _parsed(entry: str) -> QuarantinedMessage | None:
    try:
        return QuarantinedMessage.model_validate_json(entry)
    except ValidationError:
        return None
