"""Which hosts are not for a tenant to name: this machine, its network, and its cloud's own addresses."""

from __future__ import annotations

import re
import socket
import unicodedata
from collections.abc import Iterable
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network

Address = IPv4Address | IPv6Address

#: An IPv4 address in IPv6 clothes, which a gateway takes off again.
_NAT64 = IPv6Network("64:ff9b::/96")
#: Inside addresses that look like public ones: Azure's and Alibaba's hosts for their machines.
_CLOUD = frozenset({ip_address("168.63.129.16"), ip_address("100.100.100.200")})
_INSIDE = (".localhost", ".local", ".localdomain", ".internal", ".intranet", ".lan", ".home.arpa", ".corp")
_DOTS = re.compile("[\u3002\uff0e\uff61]")
_HOST_PATTERN = re.compile(r"(\*\.)?[a-z0-9_-]+(\.[a-z0-9_-]+)*")


class AllowedHosts:
    """Private hosts that may be named all the same: names, `*.suffix`, addresses and networks."""

    def __init__(self, entries: Iterable[str] = ()) -> None:
        """Raises `ValueError` naming the entry that is neither name, address nor network."""
        self._names: set[str] = set()
        self._networks = []
        for entry in (each.strip().lower() for each in entries):
            try:
                self._networks.append(ip_network(entry, strict=False))
            except ValueError:
                if not _HOST_PATTERN.fullmatch(entry):
                    raise ValueError(f"{entry!r} is not a host, *.suffix, address or network") from None
                self._names.add(entry)

    def admits(self, host: str) -> bool:
        """Whether `host` is on the list."""
        host = plain_host(host)
        address = literal_address(host)
        if address is not None:
            return self.admits_address(address)
        return any(fnmatchcase(host, name) for name in self._names)

    def admits_address(self, address: Address) -> bool:
        """Whether `address` is on the list."""
        return any(address in network for network in self._networks if network.version == address.version)


def is_private(host: str) -> bool:
    """Whether a host, as a URL has it, is an inside one. A name is judged by its form, not looked up."""
    host = plain_host(host)
    address = literal_address(host)
    if address is not None:
        return is_private_address(address)
    return "." not in host or host.endswith(_INSIDE)


def is_private_address(address: Address) -> bool:
    """Whether an address is loopback, link-local, private or otherwise not of the public Internet."""
    if isinstance(address, IPv6Address):
        inner = address.ipv4_mapped or address.sixtofour
        if address in _NAT64:
            inner = IPv4Address(int(address) & 0xFFFFFFFF)
        if inner is not None:
            return is_private_address(inner)
    return not address.is_global or address.is_multicast or address in _CLOUD


def is_loopback(host: str) -> bool:
    """Whether a host is this machine itself. A name is judged by its form, not looked up."""
    host = plain_host(host)
    address = literal_address(host)
    return address.is_loopback if address is not None else host == "localhost"


def literal_address(host: str) -> Address | None:
    """The address that `host` is a spelling of, `127.1`, `0x7f000001` and `2130706433` among them."""
    try:
        return ip_address(host.partition("%")[0])
    except ValueError:
        pass  # not of the usual form; C libraries take others
    try:
        return IPv4Address(socket.inet_aton(host))
    except (OSError, ValueError):
        return None


def plain_host(host: str) -> str:
    """`host` as a resolver reads it: small letters, ASCII forms of wide digits and dots, no final dot."""
    return _DOTS.sub(".", unicodedata.normalize("NFKC", host)).strip("[]").rstrip(".").lower()
