from __future__ import annotations

from pydantic import Field

from .contract import Contract


class Owner(Contract):
    """Whom a job belongs to: the ids a Rustic `DependencyResolver.resolve` is called with."""

    org: str = Field(min_length=1, max_length=512)
    guild: str = Field(min_length=1, max_length=512)
    agent: str = Field(min_length=1, max_length=512)

    def __str__(self) -> str:
        return f"{self.org}/{self.guild}/{self.agent}"
