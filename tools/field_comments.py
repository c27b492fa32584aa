"""The `#:` comments above a model's fields, for the pages made from them."""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterator

from pydantic import BaseModel

_FIELD = re.compile(r"    ([a-z_]+): ")


def field_groups(model: type[BaseModel]) -> Iterator[tuple[list[str], str]]:
    """The fields of a class, without inherited ones, that stand together, and the comment above them."""
    names: list[str] = []
    comment: list[str] = []
    for line in [*inspect.getsource(model).splitlines(), ""]:
        stripped = line.strip()
        if names and (not stripped or stripped.startswith("#:")):
            yield names, " ".join(comment)
            names, comment = [], []
        if stripped.startswith("#:"):
            comment.append(stripped.removeprefix("#:").strip())
        elif field := _FIELD.match(line):
            if field[1] in model.model_fields:
                names.append(field[1])
            else:
                comment = []  # of a class variable
