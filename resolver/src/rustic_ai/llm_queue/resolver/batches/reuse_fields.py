from __future__ import annotations

from typing import Any

from rustic_ai.llm_queue.tasks.reuse.options import ReuseOptions


def take_reuse(params: dict[str, Any]) -> ReuseOptions | None:
    """What a line's body asks of answers that are there already; its fields are taken out of `params`.

    Raises `pydantic.ValidationError` naming the field.
    """
    asked = {name: params.pop(name) for name in ReuseOptions.model_fields if name in params}
    options = ReuseOptions.model_validate(asked)
    return options if options.asked else None
