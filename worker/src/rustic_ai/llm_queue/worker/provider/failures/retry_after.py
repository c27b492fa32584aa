from __future__ import annotations

import email.utils
import re
import time
from collections.abc import Mapping

from rustic_ai.llm_queue.tasks.contract import MOST_SECONDS

#: Google sends it in the body alone.
_RETRY_INFO = re.compile(r"retryDelay\\?[\"']?\s*:\s*\\?[\"']?(\d+(?:\.\d+)?)s")


def retry_after_s(headers: Mapping[str, str], body: str = "") -> float | None:
    """Seconds a provider asked to wait; None when it asked for nothing that makes sense.

    From `retry-after-ms`, from `Retry-After` as seconds or as an HTTP date, or from Google's body.
    `headers` must look names up in any case of letters.
    """
    if (milliseconds := _number(headers.get("retry-after-ms"))) is not None:
        return milliseconds / 1000
    value = headers.get("retry-after")
    if value:
        if (seconds := _number(value)) is not None:
            return seconds
        return _until(value, headers.get("date"))
    match = _RETRY_INFO.search(body)
    return _number(match[1]) if match else None


def _number(value: str | None) -> float | None:
    try:
        number = float(value) if value else None
    except ValueError:
        return None
    # NaN is in no range.
    return number if number is not None and 0 <= number <= MOST_SECONDS else None


def _until(date: str, server_date: str | None) -> float | None:
    """Seconds from the server's own now, so that its clock need not agree with ours."""
    try:
        then = email.utils.parsedate_to_datetime(date).timestamp()
        now = email.utils.parsedate_to_datetime(server_date).timestamp() if server_date else time.time()
    except (ValueError, OverflowError):
        return None
    return max(0.0, then - now)
