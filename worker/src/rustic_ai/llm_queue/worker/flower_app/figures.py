from __future__ import annotations

_NARROW_SPACE = "\N{NO-BREAK SPACE}"


def duration(seconds: float) -> str:
    """Seconds as people read them: `4 ms`, `1.2 s`, `3 m 20 s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}{_NARROW_SPACE}ms"
    if seconds < 60:
        return f"{seconds:.1f}{_NARROW_SPACE}s"
    minutes, left = divmod(round(seconds), 60)
    return f"{minutes}{_NARROW_SPACE}m{_NARROW_SPACE}{left:02d}{_NARROW_SPACE}s"


def cost(usd: float) -> str:
    """USD with the digits that a single call's cost needs."""
    return f"${usd:.2f}" if usd >= 1 else f"${usd:.6f}"


def count(number: float) -> str:
    """A whole number with its thousands apart."""
    return f"{number:,.0f}"
