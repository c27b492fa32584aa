from __future__ import annotations

from dataclasses import dataclass
from typing import Self
from urllib.parse import urlsplit

from ..connection.redis_url import masked_url


@dataclass(frozen=True)
class AllowedEndpoint:
    """A provider's base URL that may be sent the worker's key for that provider."""

    provider: str
    base_url: str

    @classmethod
    def parse(cls, entry: str) -> Self:
        """Read `provider=base URL`. Raises `ValueError` saying what is wrong with it."""
        provider, found, base_url = entry.strip().partition("=")
        if not found or not provider.strip():
            raise ValueError(f"{_shown(entry)!r} is not of the form provider=https://host/path")
        try:
            parts = urlsplit(base_url.strip())
            host, _ = parts.hostname, parts.port
        except ValueError:
            raise ValueError(f"{_shown(base_url)!r} is not a URL") from None
        if parts.scheme not in ("http", "https") or not host:
            raise ValueError(f"{_shown(base_url)!r} is not an http or https URL")
        if "@" in parts.netloc:
            raise ValueError(f"{_shown(base_url)!r} has a user or a password, which no job may name")
        return cls(provider.strip(), canonical_url(base_url))

    def admits(self, provider: str, base_url: str) -> bool:
        """Whether this very address of this very provider is meant; no prefixes, no patterns."""
        return self.provider == provider and self.base_url == canonical_url(base_url)


def canonical_url(url: str) -> str:
    """`url` with the parts that do not matter made equal: case of the host, final slashes, default port."""
    parts = urlsplit(url.strip())
    host = (parts.hostname or "").lower()
    if ":" in host:
        host = f"[{host}]"
    port = "" if parts.port in (None, {"http": 80, "https": 443}.get(parts.scheme)) else f":{parts.port}"
    user = f"{parts.netloc.rpartition('@')[0]}@" if "@" in parts.netloc else ""
    query = f"?{parts.query}" if parts.query else ""
    return f"{parts.scheme}://{user}{host}{port}{parts.path.rstrip('/')}{query}"


def _shown(entry: str) -> str:
    entry = entry.strip()
    return masked_url(entry) if "@" in entry or "?" in entry else entry
