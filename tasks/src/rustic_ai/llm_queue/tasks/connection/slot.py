"""Which node of a cluster has the keys of one tag, as far as it is known: nothing here connects."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from redis.crc import key_slot
from redis.exceptions import MovedError

from .key_tag import hash_tag

Address = tuple[str, int]


class Slot:
    """The slot of a tag, and the node that has it as far as anybody has said.

    It is shared by the connections of a pool: what one of them finds out holds for all that connect later.

    Args:
        seeds: some of the cluster's nodes.
    """

    def __init__(self, tag: str, seeds: Sequence[Address]) -> None:
        self.number: int = key_slot(hash_tag(tag).encode())
        #: None while it has to be asked for.
        self.owner: Address | None = None
        self._seeds = tuple(seeds)
        self._nodes: tuple[Address, ...] = ()
        self._suspect: Address | None = None

    def to_ask(self) -> Iterator[Address]:
        """The nodes that may know where the slot is, in the order to ask them: last the one that failed."""
        known = dict.fromkeys((*self._nodes, *self._seeds))
        yield from (node for node in known if node != self._suspect)
        if self._suspect is not None:
            yield self._suspect

    def learn(self, slots: Sequence[Any], asked: Address) -> Address | None:
        """Take in what a node answers to CLUSTER SLOTS.

        Args:
            asked: that node.

        Returns the slot's owner; None where the answer names none.
        """
        nodes: dict[Address, None] = {}
        owner: Address | None = None
        for first, last, *there in slots:
            addresses = [_address(node, asked) for node in there]
            nodes |= dict.fromkeys(addresses)
            if int(first) <= self.number <= int(last) and addresses:
                owner = addresses[0]
        self._nodes = tuple(nodes)
        self.owner = owner
        return owner

    def moved(self, error: MovedError, asked: Address) -> None:
        """A node says that another one has the slot."""
        self.owner = (error.host or asked[0], error.port)

    def lost(self, node: Address) -> None:
        """A node has failed: the next connection asks the others first."""
        if self.owner == node:
            self.owner, self._suspect = None, node


def _address(node: Sequence[Any], asked: Address) -> Address:
    host, port = node[0], node[1]
    name = host.decode() if isinstance(host, bytes) else host
    # A node that does not know its own name leaves it out.
    return (asked[0] if name in (None, "", "?") else str(name), int(port))
