"""What a Redis URL may say. Parsing only: nothing here connects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, unquote, urlsplit

REDIS_SCHEMES = ("redis", "rediss", "sentinel")
#: In place of Redis' URL: agents' calls stay in their own process, where a test answers them.
MEMORY_URL = "memory://"
_OTHERWISE = "otherwise"
#: What a Sentinel URL may say of TLS, by redis-py's names; `tls=1` turns it on.
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
#: The Sentinels' own user, which is not the master's.
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})


def is_memory_url(url: str) -> bool:
    return url.startswith("memory:")


def otherwise_of(url: str) -> str | None:
    """The text that answers every call without a scripted answer. Raises `ValueError`."""
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if not url.startswith(MEMORY_URL) or parts.netloc or parts.path or options.keys() - {_OTHERWISE}:
        raise ValueError(f"the URL is not {MEMORY_URL} or {MEMORY_URL}?{_OTHERWISE}=some+text")
    return options.get(_OTHERWISE, [None])[-1]


def check_redis_url(url: str) -> str:
    """Return `url` if it names a Redis server this project can use, or none at all (`memory://`).

    Raises `ValueError`.
    """
    if is_memory_url(url):
        otherwise_of(url)
        return url
    if url.startswith("sentinel:"):
        SentinelUrl.parse(url)
        return url
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        # urlsplit's message may hold the password that broke the parse.
        raise ValueError("the URL does not parse; give redis://host:port/db") from error
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"the URL's scheme is {parts.scheme!r}; use one of {', '.join(REDIS_SCHEMES)}")
    if not host:
        raise ValueError("the URL names no host; give redis://host:port/db")
    database = parts.path.strip("/")
    if database and not database.isdigit():
        raise ValueError(f"the URL's path {database!r} is not a database number")
    return url


@dataclass(frozen=True)
class SentinelUrl:
    """`sentinel://[user:password@]host:port[;host:port…]/db?master=name[&option=value…]`, taken apart.

    Options: `tls=1` (for master and Sentinels alike), `ssl_ca_certs`, `ssl_certfile`, `ssl_keyfile`,
    `sentinel_username`, `sentinel_password`.
    """

    hosts: tuple[tuple[str, int], ...]
    master: str
    db: int
    username: str | None
    password: str | None = field(repr=False)
    options: dict[str, str] = field(default_factory=dict, repr=False)

    @property
    def tls(self) -> dict[str, str] | None:
        """redis-py's options for TLS, which check the server's certificate; None without TLS."""
        if self.options.get("tls") != "1":
            return None
        said = {name: value for name, value in self.options.items() if name in _TLS_OPTIONS}
        return {"ssl_cert_reqs": "required", **said}

    @property
    def to_sentinels(self) -> dict[str, Any]:
        """redis-py's options for connections to the Sentinels themselves, but for the timeouts."""
        said = {name: self.options[name] for name in _SENTINEL_OPTIONS & self.options.keys()}
        tls = {"ssl": True, **self.tls} if self.tls else {}
        return tls | {name.removeprefix("sentinel_"): value for name, value in said.items()}

    @classmethod
    def parse(cls, url: str) -> SentinelUrl:
        """Raises `ValueError` that names what is missing."""
        parts = urlsplit(url)
        credentials, _, addresses = parts.netloc.rpartition("@")
        username, _, password = credentials.partition(":")
        options = dict(parse_qsl(parts.query))
        master = options.pop("master", "")
        if not master:
            raise ValueError("the sentinel URL names no master; add ?master=name")
        _check_options(options)
        hosts = []
        for address in filter(None, addresses.split(";")):
            host, _, port = address.rpartition(":")
            if not host or not port.isdecimal():
                raise ValueError(f"{address!r} is not host:port of a sentinel")
            hosts.append((host.strip("[]"), int(port)))
        if not hosts:
            raise ValueError("the sentinel URL names no host")
        database = parts.path.strip("/") or "0"
        if not database.isdecimal():
            raise ValueError(f"the URL's path {database!r} is not a database number")
        return cls(
            hosts=tuple(hosts),
            master=master,
            db=int(database),
            username=unquote(username) or None,
            password=unquote(password) or None,
            options=options,
        )


def _check_options(options: dict[str, str]) -> None:
    known = {"tls"} | _TLS_OPTIONS | _SENTINEL_OPTIONS
    if unknown := sorted(options.keys() - known):
        raise ValueError(f"the sentinel URL's option {unknown[0]!r} is not one of {', '.join(sorted(known))}")
    if options.get("tls", "1") not in ("0", "1"):
        raise ValueError("the sentinel URL's option 'tls' is neither 0 nor 1")
    if options.get("tls") != "1" and (idle := sorted(options.keys() & _TLS_OPTIONS)):
        # Taken in silence, it would be a plain connection that looks like a safe one.
        raise ValueError(f"the sentinel URL has {idle[0]!r} and no TLS; add tls=1")
