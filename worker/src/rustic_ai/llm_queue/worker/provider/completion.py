from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from rustic_ai.llm_queue.tasks.usage import Usage


@dataclass(frozen=True)
class Completion:
    """A provider's whole answer."""

    response: dict[str, Any] = field(repr=False)
    usage: Usage
