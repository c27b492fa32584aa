from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import logging
import time
from collections.abc import Awaitable, Callable, Mapping
from datetime import UTC, datetime
from typing import Any, cast
from urllib.request import Request, urlopen

from prometheus_client import CollectorRegistry, Counter
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.connection.redis_client import OUTAGE_ERRORS
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.views.bucket_names import UNSPLIT, bucket_names
from rustic_ai.llm_queue.tasks.policy.budget_rule import NANO

logger = logging.getLogger(__name__)

#: Sends an event, by its kind and its fields, to Celery's monitors; blocks.
SendEvent = Callable[[str, Mapping[str, Any]], None]

_WAIT_S = 2
_REDIS_AWAY_S = 1.0
_TRIES, _PAUSE_S, _POST_S = 5, 1.0, 10.0
SIGNATURE_HEADER = "X-LLM-Queue-Signature"


class _Alert(BaseModel):
    model_config = ConfigDict(extra="ignore")

    budget: str = Field(max_length=512)
    percent: int = Field(ge=1, le=100)
    unit: str = Field(pattern="^(usd|tokens)$")
    spent: int = Field(ge=0)
    limit: int = Field(ge=0)
    ends_ms: int = Field(ge=0)

    def told(self) -> dict[str, Any]:
        """As the log and the POST have it: dollars or tokens, and when the budget resets."""
        scale = NANO if self.unit == "usd" else 1
        resets = datetime.fromtimestamp(self.ends_ms / 1000, UTC).isoformat() if self.ends_ms else None
        name, _, rest = self.budget.partition(":")
        bucket, _, period = rest.partition(":")
        return {
            "budget": name,
            "bucket": bucket,
            "period": period,
            "percent": self.percent,
            "unit": self.unit,
            "spent": self.spent / scale,
            "limit": self.limit / scale,
            "resets_at": resets,
        }


class BudgetAlerts:
    """Passes on the alerts of budgets, each by one worker and once: a `Service`.

    Into the log, a counter, Celery's events (`worker-budget-alert`), and a POST of JSON where an address is
    set. The POST bears
    `X-LLM-Queue-Signature: t=<Unix seconds>,v1=<hex>`, an HMAC-SHA256 over `<t>.<body>`, and is tried five
    times.
    """

    def __init__(
        self,
        redis: Redis,
        *,
        url: str | None,
        secret: bytes,
        key: bytes,
        registry: CollectorRegistry | None,
        send_event: SendEvent | None = None,
    ) -> None:
        """
        Args:
            redis: a connection of its own, on which it waits.
            secret: signs the POSTs; empty for none.
            key: tells whose a bucket is, as `bucket_names` has it.
        """
        self._redis, self._url, self._secret, self._send_event = redis, url, secret, send_event
        self._key = key
        self._count = (
            Counter(
                "llm_queue_budget_alerts",
                "Alerts of budgets that this worker has passed on.",
                ("budget", "percent"),
                registry=registry,
            )
            if registry is not None
            else None
        )

    async def run(self) -> None:
        """Wait for alerts until cancelled."""
        while True:
            try:
                popped = await cast("Awaitable[list[str] | None]", self._redis.brpop([keys.ALERTS], _WAIT_S))
            except OUTAGE_ERRORS:
                await asyncio.sleep(_REDIS_AWAY_S)
                continue
            if popped is not None:
                await self._pass_on(popped[1])

    async def _pass_on(self, text: str) -> None:
        try:
            alert = _Alert.model_validate_json(text)
        except ValidationError:
            logger.warning("An alert of a budget that makes no sense was dropped")
            return
        told = alert.told()
        told["of"] = await self._whose(told["budget"], told["bucket"])
        whose = f" of {told['of']}" if told["of"] not in (None, UNSPLIT) else ""
        logger.warning(
            "The budget %s%s (%s) has spent %s of %s %s, %s %% or more",
            told["budget"], whose, told["period"],
            told["spent"], told["limit"], told["unit"], told["percent"],
            extra={"budget": told},
        )  # fmt: skip
        if self._count is not None:
            self._count.labels(told["budget"], str(told["percent"])).inc()
        if self._send_event is not None:
            await asyncio.to_thread(self._send_event, "budget-alert", told)
        if self._url:
            await self._post(self._url, json.dumps(told).encode())

    async def _whose(self, budget: str, bucket: str) -> str | None:
        try:
            names = await bucket_names(self._redis, [(budget, bucket)], self._key)
        except OUTAGE_ERRORS:
            return None  # an alert without it is better than none
        return names.get((budget, bucket))

    async def _post(self, url: str, body: bytes) -> None:
        for attempt in range(_TRIES):
            try:
                await asyncio.to_thread(self._send, url, body)
            except (OSError, ValueError) as error:
                logger.warning("An alert was not taken (%s), try %s", type(error).__name__, attempt + 1)
                await asyncio.sleep(_PAUSE_S * 2**attempt)
            else:
                return

    def _send(self, url: str, body: bytes) -> None:
        headers = {"Content-Type": "application/json"}
        if self._secret:
            at = str(int(time.time()))
            digest = hmac.new(self._secret, f"{at}.".encode() + body, hashlib.sha256).hexdigest()
            headers[SIGNATURE_HEADER] = f"t={at},v1={digest}"
        # An operator's own address, from the settings alone.
        with urlopen(Request(url, data=body, headers=headers, method="POST"), timeout=_POST_S):  # noqa: S310
            return
