"""Free TCP ports on loopback."""

import os
import random
import socket

# Outside the kernel's ephemeral range (32768-60999): a server that is down for 30 s
# in a fault test must not lose its port to somebody's outgoing connection.
_FIRST, _LAST = 20_000, 32_000
# Nor to a server of another pytest process: each has a part of the range to itself.
_PART = 1_500


def free_port() -> int:
    """Return a TCP port that nothing on 127.0.0.1 is bound to.

    Raises:
        OSError: no free port was found in 200 tries.
    """
    first, last = _range()
    for _ in range(200):
        port = random.randrange(first, last)
        with socket.socket() as probe:
            # The servers we start set it too; without it a port in TIME_WAIT counts as taken.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port
    raise OSError("no free port on 127.0.0.1")


def _range() -> tuple[int, int]:
    """The ports of this pytest process; all of them where it is the only one."""
    worker = os.environ.get("PYTEST_XDIST_WORKER", "").removeprefix("gw")
    if not worker:
        return _FIRST, _LAST
    first = _FIRST + int(worker) % ((_LAST - _FIRST) // _PART) * _PART
    return first, first + _PART


def accepts_connections(port: int, timeout_s: float = 0.2) -> bool:
    """Whether something on 127.0.0.1 accepts a connection on this port."""
    try:
        socket.create_connection(("127.0.0.1", port), timeout=timeout_s).close()
    except OSError:
        return False
    return True
