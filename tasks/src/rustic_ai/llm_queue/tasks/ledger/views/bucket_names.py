"""Whose a bucket of a limit or budget is: its name is a hash, which the books' names are tried on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from itertools import permutations

from redis.asyncio import Redis

from .. import keys
from ..books import Books, CostRow

#: For as long as budgets of ended periods are kept.
_KEPT = timedelta(days=35)
#: What a limit or budget may be split by, of what the books know.
_OWNER = ("org", "guild", "agent")
_SPLITS = [split for count in range(len(_OWNER) + 1) for split in permutations(_OWNER, count)]

Bucket = tuple[str, str]
#: What the only bucket of one that is not split is called.
UNSPLIT = "all"


async def bucket_names(redis: Redis, buckets: Iterable[Bucket], key: bytes) -> dict[Bucket, str]:
    """What each bucket, a limit's or budget's name and its hash, is split by: `acme/research`.

    Unsplit ones are `all`. Those by models, keys or runs, and those of owners that no job in the books has,
    are left out. Raises redis-py's `RedisError`.

    Args:
        key: `KeyRing.limit_key` of the workers' sealing keys, without which no name can be told.
    """
    sought: dict[str, set[str]] = {}
    for name, digest in buckets:
        sought.setdefault(name, set()).add(digest)
    if not sought:
        return {}
    books = Books(redis)
    today = await books.today()
    owners = list(_owners(await books.rows(today - _KEPT, today)))
    return {
        (name, digest): shown
        for name, digests in sought.items()
        for shown, split in owners
        if (digest := keys.limit_id(name, split, key).partition(":")[2]) in digests
    }


def _owners(rows: Iterable[CostRow]) -> Iterator[tuple[str, list[str]]]:
    """Each way to split by owners, as it is shown and as it is hashed."""
    seen = {tuple(getattr(row, one) for one in split) for row in rows for split in _SPLITS} | {()}
    for values in sorted(seen):
        # The last value is a key of the job's own: calls with one are in no budget, and limits' are left out.
        yield "/".join(values) or UNSPLIT, [*values, ""]
