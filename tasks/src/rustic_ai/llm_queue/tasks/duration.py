from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any

from pydantic import BeforeValidator

_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")


def parse_duration(value: Any) -> Any:
    """Read `30`, `30s`, `500ms`, `5m`, `1h` or `1d`; the rest is left to pydantic (`PT30S`, `00:00:30`)."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS_S[match[2]])
    return value


#: A length of time in a setting; a bare number is in seconds.
Duration = Annotated[timedelta, BeforeValidator(parse_duration)]
