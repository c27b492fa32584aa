"""The models that LiteLLM's price map has, by each name that a call may give them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import litellm


def priced_models() -> Iterator[tuple[str, dict[str, Any]]]:
    """Each model by its name alone and as `provider/model`, with its entry in the map."""
    for name, entry in litellm.model_cost.items():
        provider = str(entry.get("litellm_provider", ""))
        yield name, entry
        if not name.startswith(f"{provider}/"):
            yield f"{provider}/{name}", entry
