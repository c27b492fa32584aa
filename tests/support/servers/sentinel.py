"""A master, a replica and three Sentinels that watch them."""

import shutil
from pathlib import Path
from typing import Any, Self

import redis

from support.processes.process import ChildProcess
from support.processes.scratch import scratch_dir
from support.processes.wait import wait_until
from support.servers.ports import free_port
from support.servers.valkey import CLIENT_NAME, ValkeyServer, server_binary

MASTER_NAME = "llmq"
_QUORUM = 2


class SentinelProcess(ChildProcess):
    """The server binary as a Sentinel.

    Args:
        more: further lines of its configuration.
    """

    def __init__(
        self, directory: Path, number: int, master_port: int, down_after_s: float, more: str = ""
    ) -> None:
        self.port = free_port()
        config = directory / f"sentinel-{number}.conf"
        config.write_text(
            f"port {self.port}\nbind 127.0.0.1\ndir {directory}\n"
            f"sentinel monitor {MASTER_NAME} 127.0.0.1 {master_port} {_QUORUM}\n"
            f"sentinel down-after-milliseconds {MASTER_NAME} {int(down_after_s * 1000)}\n"
            f"sentinel failover-timeout {MASTER_NAME} 10000\n"
            f"sentinel parallel-syncs {MASTER_NAME} 1\n{more}"
        )
        log_path = directory / f"sentinel-{number}.log"
        super().__init__([server_binary(), str(config), "--sentinel"], log_path=log_path, cwd=directory)

    def ask(self, *command: str) -> Any:
        """One ``SENTINEL ...`` command's answer."""
        with redis.Redis(port=self.port, decode_responses=True, socket_timeout=2) as client:
            return client.execute_command("SENTINEL", *command)


class SentinelCluster:
    """The whole, with `failover`. Servers keep append-only files.

    Args:
        down_after_s: how long the master must be silent before the Sentinels replace it.
    """

    def __init__(self, down_after_s: float = 1.0) -> None:
        self.master_name = MASTER_NAME
        self._directory = scratch_dir("sentinel")
        at_once = {"repl-diskless-sync-delay": "0"}
        first = ValkeyServer(append_only=True, config=at_once)
        replicated = {"replicaof": f"127.0.0.1 {first.port}", **at_once}
        self.servers = (first, ValkeyServer(append_only=True, config=replicated))
        self.sentinels = tuple(
            SentinelProcess(self._directory, number, first.port, down_after_s) for number in range(3)
        )

    @property
    def url(self) -> str:
        """``sentinel://127.0.0.1:A;127.0.0.1:B;127.0.0.1:C/0?master=llmq``."""
        hosts = ";".join(f"127.0.0.1:{one.port}" for one in self.sentinels)
        return f"sentinel://{hosts}/0?master={self.master_name}"

    @property
    def master(self) -> ValkeyServer:
        """The server that the first living Sentinel calls the master."""
        asked = next(one for one in self.sentinels if one.running)
        _, port = asked.ask("get-master-addr-by-name", self.master_name)
        return next(server for server in self.servers if server.port == int(port))

    @property
    def replica(self) -> ValkeyServer:
        """The other server."""
        master = self.master
        return next(server for server in self.servers if server is not master)

    def start(self) -> None:
        """Start all and wait until the replica is in step and the Sentinels know it and each other."""
        for server in self.servers:
            server.start()
        # A Sentinel asks the master for its replicas at once, and then only every 10 s.
        wait_until(lambda: self._in_step(self.servers[1]), 30, "the replica to be in step")
        for sentinel in self.sentinels:
            sentinel.start()
        wait_until(self._acquainted, 30, "the Sentinels to know the replica and each other")

    def failover(self, *, kill: bool = True, timeout_s: float = 30.0) -> ValkeyServer:
        """Change masters and return the new one, once all Sentinels agree and it takes writes.

        With ``kill`` the master dies by SIGKILL and stays dead (`old.start()` brings it back as a
        replica); without, the Sentinels are told to change over.
        """
        old, new = self.master, self.replica
        if kill:
            old.kill()
        else:
            wait_until(lambda: self._in_step(new), timeout_s, "the replica to be in step")
            wait_until(lambda: self._changed_over(old), timeout_s, "the first Sentinel to change masters")
        wait_until(lambda: self._agree_on(new), timeout_s, f"the Sentinels to make {new} the master")
        return new

    def close(self) -> None:
        """Kill all and remove their files."""
        for sentinel in self.sentinels:
            sentinel.kill()
        for server in self.servers:
            server.close()
        shutil.rmtree(self._directory, ignore_errors=True)

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _in_step(self, server: ValkeyServer) -> bool:
        with server.client() as replica:
            return bool(replica.info("replication").get("master_link_status") == "up")

    def _acquainted(self) -> bool:
        for sentinel in self.sentinels:
            try:
                # Not before it knows enough of its peers can a Sentinel carry a vote.
                replicas = sentinel.ask("replicas", self.master_name)
                others = sentinel.ask("sentinels", self.master_name)
            except (redis.ConnectionError, redis.TimeoutError):
                return False
            if len(replicas) != 1 or len(others) != 2:
                return False
        return True

    def _changed_over(self, old: ValkeyServer) -> bool:
        if self.master is not old:
            return True
        try:
            # Asked again as long as nothing comes of it: a Sentinel gives up on a replica it finds unfit.
            self.sentinels[0].ask("failover", self.master_name)
        except redis.ResponseError as refusal:
            if not str(refusal).startswith(("NOGOODSLAVE", "INPROG")):
                raise
        return False

    def _agree_on(self, server: ValkeyServer) -> bool:
        ask = ("get-master-addr-by-name", self.master_name)
        if any(int(one.ask(*ask)[1]) != server.port for one in self.sentinels if one.running):
            return False
        with server.client(client_name=CLIENT_NAME) as client:
            return bool(client.info("replication")["role"] == "master")
