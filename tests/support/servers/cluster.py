"""Three primaries in cluster mode, one of them with a replica, and slots that can be moved among them."""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from typing import Any, Self

import redis
from redis.crc import REDIS_CLUSTER_HASH_SLOTS, key_slot

from rustic_ai.llm_queue.tasks.connection.key_tag import tagged
from rustic_ai.llm_queue.worker.broker.key_tag import TaggedConnection
from support.processes.wait import wait_until
from support.servers.valkey import ValkeyServer

#: The tag of the tests' keys.
TAG = "llmq"
_PREFIX = f"{{{TAG}}}"
_PRIMARIES = 3


class ValkeyCluster:
    """The whole, with `move_slot` and `fail_over`.

    Args:
        node_timeout_s: how long a node must be silent before the others replace it.
        acl: lines of each node's ACL file.
        replica: give the primary that has the tag's slot a replica.
        append_only: keep append-only files.
    """

    def __init__(
        self,
        *,
        node_timeout_s: float = 2.0,
        acl: Iterable[str] = (),
        replica: bool = False,
        append_only: bool = True,
    ) -> None:
        config = {
            "cluster-node-timeout": str(int(node_timeout_s * 1000)),
            # A failed node is replaced at once, however long its replica was out of step.
            "cluster-replica-validity-factor": "0",
            "repl-diskless-sync-delay": "0",
        }
        lines = list(acl)
        self.servers = tuple(
            ValkeyServer(append_only=append_only, acl=lines, config=config, cluster=True)
            for _ in range(_PRIMARIES + replica)
        )
        self.slot = key_slot(_PREFIX.encode())

    @property
    def url(self) -> str:
        """``redis+cluster://127.0.0.1:A;127.0.0.1:B;…``."""
        return "redis+cluster://" + ";".join(f"127.0.0.1:{server.port}" for server in self.servers)

    def url_for(self, user: str, password: str) -> str:
        """The URL for one of the ACL's users."""
        return self.url.replace("://", f"://{user}:{password}@")

    @property
    def env(self) -> dict[str, str]:
        """The settings of agents and workers."""
        return {"LLM_QUEUE_REDIS_URL": self.url, "LLM_QUEUE_KEY_TAG": TAG}

    @property
    def owner(self) -> ValkeyServer:
        """The living node that most recently was given the tag's slot, as the nodes that live see it."""
        # The last ones are replicas, and never killed or frozen.
        return self._seen_from(next(one for one in reversed(self.servers) if one.process.running))

    @property
    def others(self) -> list[ValkeyServer]:
        """The primaries that do not have the tag's slot."""
        owner = self.owner
        return [server for server in self.servers[:_PRIMARIES] if server is not owner]

    def client(self, **options: Any) -> redis.Redis:
        """An all-powerful client of the slot's owner. Close it, or use it in `with`."""
        return self.owner.client(**options)

    def start(self) -> None:
        """Start all, and wait until each node says that the cluster is well."""
        for server in self.servers:
            server.start()
        first, *others = self.servers
        share = REDIS_CLUSTER_HASH_SLOTS // _PRIMARIES + 1
        for number, server in enumerate(self.servers[:_PRIMARIES]):
            end = min((number + 1) * share, REDIS_CLUSTER_HASH_SLOTS) - 1
            with server.client() as client:
                client.execute_command("CLUSTER ADDSLOTSRANGE", number * share, end)
                client.execute_command("CLUSTER SET-CONFIG-EPOCH", number + 1)
        for server in others:
            with server.client() as client:
                client.execute_command("CLUSTER MEET", first.host, first.port, first.bus_port)
        wait_until(self._well, 30, "the cluster to be well")
        for replica in self.servers[_PRIMARIES:]:
            self._replicate(replica, self.owner)

    def move_slot(
        self, to: ValkeyServer, *, keys_at_once: int = 20, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        """Move the tag's slot to another primary key by key, as operators' tools do.

        `meanwhile` is called after each few keys.
        """
        source = self.owner
        with source.client() as old, to.client() as new:
            old_id, new_id = _id(old), _id(new)
            new.execute_command("CLUSTER SETSLOT", self.slot, "IMPORTING", old_id)
            old.execute_command("CLUSTER SETSLOT", self.slot, "MIGRATING", new_id)
            while keys := old.execute_command("CLUSTER GETKEYSINSLOT", self.slot, keys_at_once):
                old.execute_command("MIGRATE", to.host, to.port, "", 0, 5_000, "KEYS", *keys)
                meanwhile()
            for server in (new, old):
                server.execute_command("CLUSTER SETSLOT", self.slot, "NODE", new_id)
        wait_until(lambda: self.owner is to, 10, "the slot to be moved")

    def fail_over(self, *, kill: bool = True) -> ValkeyServer:
        """Kill the slot's owner and return the replica that the others have put in its place.

        Without `kill` it is frozen: its connections stay open, and new ones are taken and never answered.
        """
        old = self.owner
        if kill:
            old.kill()
        else:
            old.freeze()
        wait_until(lambda: self._replaced(old), 30, "the replica to be made the primary")
        return self._seen_from(next(server for server in self.servers if server is not old))

    def close(self) -> None:
        """Kill all and remove their files."""
        for server in self.servers:
            server.close()

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            stack.callback(self.close)
            self.start()
            stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _seen_from(self, server: ValkeyServer) -> ValkeyServer:
        port = self._owner_port(server)
        return next(one for one in self.servers if one.port == port)

    def _owner_port(self, server: ValkeyServer) -> int | None:
        with server.client() as client:
            nodes: dict[str, Any] = client.execute_command("CLUSTER NODES")
        for address, node in nodes.items():
            for first, *last in node["slots"]:
                if int(first) <= self.slot <= int((last or [first])[0]):
                    return int(address.rpartition(":")[2])
        return None

    def _replaced(self, old: ValkeyServer) -> bool:
        living = [server for server in self.servers if server is not old]
        return all(self._owner_port(server) not in (old.port, None) for server in living) and self._well(old)

    def _well(self, dead: ValkeyServer | None = None) -> bool:
        for server in self.servers:
            if server is dead:
                continue
            with server.client() as client:
                state: dict[str, str] = client.execute_command("CLUSTER INFO")
                known: dict[str, Any] = client.execute_command("CLUSTER NODES")
            if state["cluster_state"] != "ok" or len(known) != len(self.servers):
                return False
        return True

    def _replicate(self, replica: ValkeyServer, primary: ValkeyServer) -> None:
        with primary.client() as client:
            primary_id = _id(client)
        with replica.client() as client:
            client.execute_command("CLUSTER REPLICATE", primary_id)

            def in_step() -> bool:
                return bool(client.info("replication").get("master_link_status") == "up")

            wait_until(in_step, 30, "the replica to be in step")


class TaggedKeys:
    """The queue's keys in a cluster as they are called without the tag.

    It stands for the server in what only looks at keys.
    """

    def __init__(self, cluster: ValkeyCluster) -> None:
        self._cluster = cluster

    def client(self, **options: Any) -> redis.Redis:
        """A client of the slot's owner that puts the tag before keys, and takes it away."""
        plain = self._cluster.client(**options)
        pool = plain.connection_pool
        pool.connection_class = tagged(pool.connection_class, TAG, TaggedConnection)
        return _TaggedClient.from_pool(pool)


class _TaggedClient(redis.Redis):
    def scan_iter(self, match: Any = None, *args: Any, **kwargs: Any) -> Any:
        for key in super().scan_iter(f"{_PREFIX}{match or '*'}", *args, **kwargs):
            yield str(key).removeprefix(_PREFIX)


def _id(client: redis.Redis) -> str:
    return str(client.execute_command("CLUSTER MYID"))
