from __future__ import annotations

import re
from datetime import timedelta
from typing import Annotated, Any, cast

from pydantic import ValidationError, ValidatorFunctionWrapHandler, WrapValidator

_UNITS_S = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_DURATION = re.compile(r"(\d+(?:\.\d+)?)\s*(ms|s|m|h|d|)")


def parse_duration(value: Any) -> Any:
    """Read `30`, `30s`, `500ms`, `5m`, `1h` or `1d`; the rest is left to pydantic (`PT30S`, `00:00:30`)."""
    if isinstance(value, str) and (match := _DURATION.fullmatch(value.strip())):
        return timedelta(seconds=float(match[1]) * _UNITS_S[match[2]])
    return value


def _duration(value: Any, read: ValidatorFunctionWrapHandler) -> timedelta:
    try:
        return cast("timedelta", read(parse_duration(value)))
    except ValidationError as error:
        if not error.errors()[0]["type"].startswith("time_delta"):
            raise  # a length of time, and out of bounds
        raise ValueError(f"{value!r} is no length of time: give 500ms, 30s, 5m, 1h or 1d") from None


#: A length of time in a setting; a bare number is in seconds.
Duration = Annotated[timedelta, WrapValidator(_duration)]
