from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path

DAY_S = 86_400


def write_time_zone(path: Path, changes: Sequence[tuple[float, int]]) -> None:
    """Write a file as `zoneinfo` reads it (RFC 8536), so that a test may have midnight when it likes.

    Args:
        changes: from which Unix time on which offset from UTC in seconds holds; the first from ever.
    """
    times = [round(at) for at, _ in changes[1:]]
    offsets = [offset for _, offset in changes]
    body = (
        b"".join(struct.pack(">q", at) for at in times)
        + bytes(range(1, len(offsets)))
        + b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets)
        + b"TST\0"
    )
    counts = struct.pack(">6l", 0, 0, 0, len(times), len(offsets), 4)
    empty = struct.pack(">6l", 0, 0, 0, 0, 1, 4) + struct.pack(">lBB", 0, 0, 0) + b"TST\0"
    head = b"TZif2" + bytes(15)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(head + empty + head + counts + body + b"\n\n")


def offset_with_midnight_at(unix_s: float) -> int:
    """The offset from UTC, in seconds, by which a day begins at that moment; whole seconds."""
    offset = -round(unix_s) % DAY_S
    return offset if offset <= DAY_S // 2 else offset - DAY_S
