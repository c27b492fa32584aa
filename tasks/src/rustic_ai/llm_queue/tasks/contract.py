from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

#: Version of everything that crosses Redis. A worker refuses a record of a newer one.
WIRE_VERSION = 1

#: Nesting deeper than this is hostile: real requests (JSON schemas included) stay below 40.
MAX_NESTING = 64


#: Whole numbers on the wire stay below this: they are reckoned with as floats, here and in Lua.
LARGEST = 2**53
Whole = Annotated[int, Field(ge=0, le=LARGEST)]
#: Most seconds on the wire: as many as those milliseconds. A `timedelta` holds them.
MOST_SECONDS = LARGEST / 1000
#: A number too large for a float would be read as an infinity, which JSON has no form for.
Seconds = Annotated[float, Field(ge=0, le=MOST_SECONDS, allow_inf_nan=False)]
_VERSION = re.compile(r"[0-9]{1,9}")
_LONGEST_NAMES = 500


class Contract(BaseModel):
    """Base of every model on the wire: immutable, and a field it does not know is an error."""

    model_config = ConfigDict(extra="forbid", frozen=True, ser_json_inf_nan="constants")

    def share_field_names(self) -> None:
        """Forget which fields were given: a set of their names for each model is larger than its values."""
        object.__setattr__(self, "__pydantic_fields_set__", _field_names(type(self)))


@cache
def _field_names(model: type[Contract]) -> set[str]:
    return set(model.model_fields)


class ContractViolation(ValueError):
    """A record on the wire that no version of this contract could have written."""


class NewerVersion(ContractViolation):
    """A record written by a newer release: upgrade this side."""


def field_names(error: ValidationError) -> str:
    """The fields that did not validate, sorted, in at most 500 characters; never their values."""
    return ", ".join(sorted({_path(item["loc"]) for item in _errors(error)}))[:_LONGEST_NAMES]


def field_messages(error: ValidationError) -> str:
    """Each field that did not validate, with what is wrong with it. A message may quote the value."""
    return "; ".join(f"{_path(item['loc'])}: {item['msg']}" for item in _errors(error))


def _errors(error: ValidationError) -> Sequence[Mapping[str, Any]]:
    return error.errors(include_url=False, include_context=False, include_input=False)


def _path(location: Sequence[int | str]) -> str:
    return ".".join(map(str, location))


def check_version(version: object, *, what: str) -> None:
    """Raise `NewerVersion`, or `ContractViolation` when `version` is none, unless it can be read here."""
    text = str(version) if type(version) in (int, str) else ""
    if not _VERSION.fullmatch(text):
        raise ContractViolation(f"the {what} carries no version")
    if int(text) > WIRE_VERSION:
        raise NewerVersion(f"{what} of version {text}, this release reads up to {WIRE_VERSION}")


def check_json_value(value: Any, *, field: str, depth: int = 0) -> None:
    """Raise `ValueError` naming `field` unless `value` can travel as JSON.

    Refused: NaN and infinities, text with lone surrogates, nesting past `MAX_NESTING`, and
    types JSON has no form for.
    """
    if depth > MAX_NESTING:
        raise ValueError(f"{field}: nested deeper than {MAX_NESTING} levels; flatten it")
    match value:
        case None | bool() | int():
            return
        case float():
            if not math.isfinite(value):
                raise ValueError(f"{field}: {value!r} is not a finite number")
        case str():
            _check_text(value, field)
        case Mapping():
            for key, item in value.items():
                if not isinstance(key, str):
                    raise ValueError(f"{field}: the key {key!r} is not text")
                _check_text(key, field)
                check_json_value(item, field=f"{field}.{key}", depth=depth + 1)
        case Sequence():
            for index, item in enumerate(value):
                check_json_value(item, field=f"{field}[{index}]", depth=depth + 1)
        case _:
            raise ValueError(f"{field}: {type(value).__name__} has no JSON form")


def _check_text(text: str, field: str) -> None:
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError as error:
            raise ValueError(
                f"{field}: not valid Unicode text (a lone surrogate at character {error.start}); "
                "decode the source with the right codec"
            ) from None
