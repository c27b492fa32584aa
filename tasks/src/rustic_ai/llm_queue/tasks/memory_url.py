from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

#: In place of Redis' URL: agents' calls stay in their own process, where a test answers them.
MEMORY_URL = "memory://"
_OTHERWISE = "otherwise"


def is_memory_url(url: str) -> bool:
    return url.startswith("memory:")


def otherwise_of(url: str) -> str | None:
    """The text that answers every call without a scripted answer. Raises `ValueError`."""
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if not url.startswith(MEMORY_URL) or parts.netloc or parts.path or options.keys() - {_OTHERWISE}:
        raise ValueError(f"the URL is not {MEMORY_URL} or {MEMORY_URL}?{_OTHERWISE}=some+text")
    return options.get(_OTHERWISE, [None])[-1]
