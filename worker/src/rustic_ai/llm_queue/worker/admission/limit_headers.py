"""What a provider's answer tells of its limits, in its headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Literal

Unit = Literal["requests", "tokens", "input-tokens", "output-tokens"]
UNITS: tuple[Unit, ...] = ("requests", "tokens", "input-tokens", "output-tokens")
_LARGEST = 10**9
_LONGEST_RESET_S = 86_400.0
_LONGEST_VALUE = 64
#: `6m0s`, `12ms`, `1.5s`, `1h2m`: Go's durations, as OpenAI and its like send them.
_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m(?!s))?(?:(\d+(?:\.\d+)?)s)?(?:(\d+(?:\.\d+)?)ms)?")
_PREFIXES = ("x-ratelimit-", "anthropic-ratelimit-")


@dataclass(frozen=True, slots=True)
class ProviderLimit:
    """One of a provider's limits, as it stands after a call."""

    limit: int
    remaining: int
    #: Seconds until it is whole again.
    reset_s: float


def is_limit_header(name: str) -> bool:
    """Whether `provider_limits` reads a header of this name, in small letters."""
    return name.startswith(_PREFIXES)


def provider_limits(headers: Mapping[str, str], now: datetime | None = None) -> dict[Unit, ProviderLimit]:
    """The limits that the headers, by names in small letters, tell of.

    Values that are not of their form, negative or absurd are passed over: they come from outside.
    """
    found: dict[Unit, ProviderLimit] = {}
    # A moment is the provider's: its own clock tells how far off that is, whatever this worker's shows.
    now = now or _date(headers.get("date")) or datetime.now(UTC)
    for unit in UNITS:
        for form in ("x-ratelimit-{}-" + unit, f"anthropic-ratelimit-{unit}-{{}}"):
            limit = _count(headers.get(form.format("limit")))
            remaining = _count(headers.get(form.format("remaining")))
            reset_s = _reset_s(headers.get(form.format("reset")), now)
            if limit and remaining is not None and reset_s is not None:
                found[unit] = ProviderLimit(limit, min(remaining, limit), reset_s)
    return found


def _date(text: str | None) -> datetime | None:
    if not text or len(text) > _LONGEST_VALUE:
        return None
    try:
        return parsedate_to_datetime(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


def _count(text: str | None) -> int | None:
    if not text or len(text) > _LONGEST_VALUE or not text.isascii() or not text.isdecimal():
        return None
    number = int(text)
    return number if number <= _LARGEST else None


def _reset_s(text: str | None, now: datetime) -> float | None:
    if not text or len(text) > _LONGEST_VALUE:
        return None
    seconds: float | None = None
    if match := _DURATION.fullmatch(text):
        hours, minutes, full, milli = (float(part or 0) for part in match.groups())
        seconds = hours * 3600 + minutes * 60 + full + milli / 1000
    else:
        try:
            seconds = float(text)
        except ValueError:
            seconds = _until(text, now)
    if seconds is None or not math.isfinite(seconds) or not 0 <= seconds <= _LONGEST_RESET_S:
        return None
    return seconds


def _until(text: str, now: datetime) -> float | None:
    try:
        then = datetime.fromisoformat(text)
    except ValueError:
        return None
    return max((then - now).total_seconds(), 0.0) if then.tzinfo else None
