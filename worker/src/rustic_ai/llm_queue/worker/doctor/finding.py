from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Finding:
    """One thing that was looked at: how it is, and how to mend it."""

    check: str
    verdict: Literal["ok", "warning", "failure"]
    says: str
    mend: str = ""


def good(check: str, says: str) -> Finding:
    return Finding(check, "ok", says)


def doubtful(check: str, says: str, mend: str) -> Finding:
    return Finding(check, "warning", says, mend)


def bad(check: str, says: str, mend: str) -> Finding:
    return Finding(check, "failure", says, mend)
