from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class JobWait:
    """What a waiting job waits for: a limit that has no room for its next call."""

    #: The limit's name, as the operators' policy has it; one that begins with `~` is the provider's own,
    #: which has refused calls.
    limited_by: str
    #: Jobs that waited there before it when it came, or was last looked at.
    ahead: int
    #: Estimated seconds until its turn; None where only other calls' ends decide that.
    starts_in_s: float | None
