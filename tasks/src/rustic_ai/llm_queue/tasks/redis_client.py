from __future__ import annotations

import socket
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

from redis.asyncio import BlockingConnectionPool, Redis
from redis.asyncio.retry import Retry
from redis.asyncio.sentinel import Sentinel
from redis.backoff import ExponentialBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ReadOnlyError
from redis.exceptions import TimeoutError as RedisTimeoutError

from .checked_connection import checked
from .settings import require_server

#: A `SIGSTOP`ped server or a half-open connection answers nothing: give up on the socket after
#: this, and let the retries decide about the rest.
SOCKET_TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 3.0
#: A command takes well under a millisecond, so few connections carry many jobs.
MAX_CONNECTIONS = 16
_SENTINEL_CONNECTIONS = 100_000
_RETRY_STEP_S = 0.05
_RETRY_CAP_S = 1.0

#: What a Redis that is away, restarting or failing over looks like.
OUTAGE_ERRORS: tuple[type[Exception], ...] = (
    RedisConnectionError,
    RedisTimeoutError,
    ReadOnlyError,
    OSError,
)


#: What a Sentinel URL may say of TLS, by redis-py's names; `tls=1` turns it on.
_TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile"})
#: The Sentinels' own user, which is not the master's.
_SENTINEL_OPTIONS = frozenset({"sentinel_username", "sentinel_password"})


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


def connect(url: str, *, outage_s: float, max_connections: int = MAX_CONNECTIONS, **options: Any) -> Redis:
    """A lazy asyncio client for `url`; no connection is made yet.

    Args:
        outage_s: how long a command is tried again while Redis is away, restarts or fails over;
            0 tries once.
        max_connections: bound of the pool; commands beyond it wait for their turn.

    Raises `SettingsError` for `memory://`, behind which there is no server.
    """
    require_server(url)
    # The steps double up to the cap, so about this many fill the outage.
    retries = int(outage_s / _RETRY_CAP_S) + 4 if outage_s else 0
    settings: dict[str, Any] = {
        "decode_responses": True,
        # A record that is not UTF-8 must reach our validation, not break the connection.
        "encoding_errors": "replace",
        "socket_timeout": SOCKET_TIMEOUT_S,
        "socket_connect_timeout": CONNECT_TIMEOUT_S,
        "socket_keepalive": True,
        "socket_keepalive_options": _keepalive(),
        "health_check_interval": 10,
        "retry": Retry(ExponentialBackoff(cap=_RETRY_CAP_S, base=_RETRY_STEP_S), retries),
        "retry_on_error": list(OUTAGE_ERRORS),
        **options,
    }
    if not url.startswith("sentinel://"):
        # Thousands of jobs share these few: redis-py's plain pool would refuse them instead.
        pool = BlockingConnectionPool.from_url(url, max_connections=max_connections, timeout=None, **settings)
        pool.connection_class = checked(pool.connection_class)
        return Redis.from_pool(pool)
    target = SentinelUrl.parse(url)
    # The pool that follows a master does not wait for a free connection, so it must not run out.
    settings["max_connections"] = _SENTINEL_CONNECTIONS
    timeouts = {"socket_timeout": CONNECT_TIMEOUT_S, "socket_connect_timeout": CONNECT_TIMEOUT_S}
    sentinels = Sentinel(list(target.hosts), sentinel_kwargs=timeouts | target.to_sentinels)
    if target.tls:
        settings |= {"ssl": True, **target.tls}
    master: Redis = sentinels.master_for(
        target.master, db=target.db, username=target.username, password=target.password, **settings
    )
    followed = master.connection_pool
    followed.connection_class = checked(followed.connection_class)
    return master


def _keepalive() -> dict[int, int]:
    # A peer that vanished is noticed after 10 + 3 x 5 s instead of two hours.
    return {socket.TCP_KEEPIDLE: 10, socket.TCP_KEEPINTVL: 5, socket.TCP_KEEPCNT: 3}
