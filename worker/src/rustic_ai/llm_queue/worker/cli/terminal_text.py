from __future__ import annotations

from rich.markup import escape


def terminal_text(value: object) -> str:
    """A name as a terminal may show it: names are the tenants' own words, so no markup and no controls."""
    text = str(value)
    return escape(text if text.isprintable() else text.encode("unicode_escape").decode())
