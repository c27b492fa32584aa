"""What a Redis URL may say. Parsing only: nothing here connects."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import SplitResult, parse_qs, parse_qsl, unquote, urlsplit

#: Of a Redis in cluster mode, without and with TLS.
CLUSTER_SCHEMES = ("redis+cluster", "rediss+cluster")
REDIS_SCHEMES = ("redis", "rediss", "sentinel", *CLUSTER_SCHEMES)
#: In place of Redis' URL: agents' calls stay in their own process, where a test answers them.
MEMORY_URL = "memory://"
_OTHERWISE = "otherwise"
#: The files that TLS needs, by redis-py's names. A Sentinel URL turns TLS on with `tls=1`.
_SENTINEL_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
#: What a `rediss://` URL takes: what redis-py, Celery's broker and its result backend all understand.
_TLS_OPTIONS = _SENTINEL_TLS_OPTIONS | {"ssl_cert_reqs", "ssl_check_hostname"}
#: The Sentinels' own user, which is not the master's.
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})
_CHOICES = {
    "ssl_cert_reqs": ("required", "optional", "none"),
    "ssl_check_hostname": ("true", "false"),
    "tls": ("0", "1"),
}
#: Options that an error may name: ours, and those that redis-py's and Celery's own pages name.
_QUOTED = (
    {"master", "tls", "db", "username", "password", "ssl", "protocol", "timeout", "max_connections"}
    | {"socket_timeout", "socket_connect_timeout", "socket_keepalive", "retry_on_timeout", "retry_on_error"}
    | {"health_check_interval", "client_name", "decode_responses", "virtual_host", "ssl_min_version"}
    | _TLS_OPTIONS
    | _SENTINEL_OPTIONS
)
_ESCAPE = "In a password write / ? # @ as %2F %3F %23 %40"
_MOST_DIGITS = 9
_MASK = "**"
_SECRET_OPTION = re.compile(r"([?&;][^?=&;]*(?:password|passwd|pwd|secret|token|key)=)[^&;]*", re.IGNORECASE)


def is_memory_url(url: str) -> bool:
    return url.startswith("memory:")


def is_cluster_url(url: str) -> bool:
    return url.partition("://")[0] in CLUSTER_SCHEMES


def otherwise_of(url: str) -> str | None:
    """The text that answers every call without a scripted answer. Raises `ValueError`."""
    parts = urlsplit(url)
    options = parse_qs(parts.query, keep_blank_values=True)
    if not url.startswith(MEMORY_URL) or parts.netloc or parts.path or options.keys() - {_OTHERWISE}:
        raise ValueError(f"the URL is not {MEMORY_URL} or {MEMORY_URL}?{_OTHERWISE}=some+text")
    return options.get(_OTHERWISE, [None])[-1]


def check_redis_url(url: str) -> str:
    """Return `url` if it names a Redis server this project can use, or none at all (`memory://`).

    Raises `ValueError`. Its message never quotes the URL: a password with a `/`, `?` or `#` in it
    ends up in any part of what is parsed.
    """
    if is_memory_url(url):
        otherwise_of(url)
        return url
    if url.startswith("sentinel:"):
        SentinelUrl.parse(url)
        return url
    if is_cluster_url(url):
        ClusterUrl.parse(url)
        return url
    parts = _split(url)
    if parts.scheme not in REDIS_SCHEMES:
        raise ValueError(f"the URL's scheme is not one of {', '.join(REDIS_SCHEMES)}")
    if not _host(parts):
        raise ValueError(f"the URL names no host; give redis://host:port/db. {_ESCAPE}")
    _database(parts)
    options = _options(parts)
    if parts.scheme == "redis" and options:
        raise ValueError(f"the URL has {_name_of(min(options))}; a redis:// URL takes no options")
    _check_names(options, _TLS_OPTIONS)
    _check_choices(options)
    return url


def masked_url(url: str) -> str:
    """`url` for people to see: without the user and password before its host, and without those among
    its options. Made for any text: where it cannot be parsed, more is left out rather than less."""
    return ";".join(_masked(one) for one in re.split(r";(?=[\w+.:-]+://)", url))


def _masked(url: str) -> str:
    scheme, found, rest = url.partition("://")
    if not found:
        return _MASK
    # From the last @ on: a password may hold others.
    address = rest.rpartition("@")[2]
    return _SECRET_OPTION.sub(rf"\1{_MASK}", f"{scheme}://{address}")


def _split(url: str) -> SplitResult:
    try:
        parts = urlsplit(url)
    except ValueError:
        # urlsplit's message may hold the password that broke the parse.
        raise ValueError(f"the URL does not parse. {_ESCAPE}") from None
    if parts.fragment or "@" in parts.path + parts.query:
        raise ValueError(f"the URL does not parse. {_ESCAPE}")
    return parts


def _host(parts: SplitResult) -> str | None:
    try:
        _ = parts.port
        return parts.hostname
    except ValueError:
        raise ValueError(f"the URL does not parse; give redis://host:port/db. {_ESCAPE}") from None


def _database(parts: SplitResult) -> int:
    database = parts.path.strip("/") or "0"
    if not (database.isascii() and database.isdecimal() and len(database) <= _MOST_DIGITS):
        raise ValueError(f"the URL's path is not the number of a database. {_ESCAPE}")
    return int(database)


def _options(parts: SplitResult) -> dict[str, str]:
    pairs = parse_qsl(parts.query, keep_blank_values=True)
    options = dict(pairs)
    if len(pairs) > len(options):
        # Redis' client would go by the first of them, Celery's by the last.
        raise ValueError("the URL has an option twice")
    if empty := [name for name, value in options.items() if not value]:
        raise ValueError(f"the URL has {_name_of(empty[0])} without a value")
    return options


def _check_names(options: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(options) - set(known)):
        raise ValueError(f"the URL has {_name_of(unknown[0])}; it takes {', '.join(sorted(known))}")


def _check_choices(options: Mapping[str, str]) -> None:
    for name, choices in _CHOICES.items():
        if options.get(name, choices[0]) not in choices:
            raise ValueError(f"the URL's option {name} is not one of {', '.join(choices)}")


def _name_of(option: str) -> str:
    # Any other name may be a piece of a password.
    return f"the option {option}" if option in _QUOTED else "an option that is not known"


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
        said = {name: value for name, value in self.options.items() if name in _SENTINEL_TLS_OPTIONS}
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
        parts = _split(url)
        options = _options(parts)
        master = options.pop("master", "")
        if not master:
            raise ValueError("the sentinel URL names no master; add ?master=name")
        _check_names(options, {"tls"} | _SENTINEL_TLS_OPTIONS | _SENTINEL_OPTIONS)
        _check_choices(options)
        if options.get("tls") != "1" and (idle := sorted(options.keys() & _SENTINEL_TLS_OPTIONS)):
            # Taken in silence, it would be a plain connection that looks like a safe one.
            raise ValueError(f"the sentinel URL has {idle[0]!r} and no TLS; add tls=1")
        return cls(
            **_authority(parts, "sentinel"),
            master=master,
            db=_database(parts),
            options=options,
        )


@dataclass(frozen=True)
class ClusterUrl:
    """`redis+cluster://[user:password@]host:port[;host:port…]`, taken apart: some nodes of one cluster.

    With `rediss+cluster://` all connections use TLS, with the options of a `rediss://` URL.
    """

    hosts: tuple[tuple[str, int], ...]
    username: str | None
    password: str | None = field(repr=False)
    #: redis-py's options for TLS, which check the server's certificate; None without TLS.
    tls: dict[str, str | bool] | None = field(default=None, repr=False)

    @classmethod
    def parse(cls, url: str) -> ClusterUrl:
        """Raises `ValueError` that names what is missing."""
        parts = _split(url)
        options = _options(parts)
        if parts.scheme == "redis+cluster" and options:
            raise ValueError(f"the URL has {_name_of(min(options))}; a redis+cluster:// URL takes no options")
        _check_names(options, _TLS_OPTIONS)
        _check_choices(options)
        if _database(parts):
            raise ValueError("the cluster URL names a database; in cluster mode there is only 0")
        tls: dict[str, str | bool] = {"ssl_cert_reqs": "required", **options}
        if "ssl_check_hostname" in options:
            tls["ssl_check_hostname"] = options["ssl_check_hostname"] == "true"
        return cls(
            **_authority(parts, "cluster"),
            tls=tls if parts.scheme == "rediss+cluster" else None,
        )


def _authority(parts: SplitResult, kind: str) -> dict[str, Any]:
    """`hosts`, `username` and `password` of a URL that may name several hosts."""
    credentials, _, addresses = parts.netloc.rpartition("@")
    username, _, password = credentials.partition(":")
    hosts = tuple(_host_and_port(address, kind) for address in addresses.split(";") if address)
    if not hosts:
        raise ValueError(f"the {kind} URL names no host")
    return {"hosts": hosts, "username": unquote(username) or None, "password": unquote(password) or None}


def _host_and_port(address: str, kind: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not (host and port.isascii() and port.isdecimal() and len(port) <= _MOST_DIGITS):
        raise ValueError(f"an address of the {kind} URL is not host:port. {_ESCAPE}")
    return host.strip("[]"), int(port)
