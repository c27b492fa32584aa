from __future__ import annotations

import re
from collections import Counter
from collections.abc import Hashable

#: What a value is called that came when there was no room left.
OTHER = "other"
#: One organisation may bring this share of the values, so that it cannot take the others' room.
_SHARE = 5
_PRINTABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\u2028\u2029]{1,120}")


class BoundedLabels:
    """The values that a label takes: the first `most` that come.

    Models, organisations and guilds are words of the tenants'. Each new one is a time series for
    good, in every worker and in Prometheus, so there has to be an end to them.
    """

    def __init__(self, most: int) -> None:
        self._most, self._most_of_one = most, max(most // _SHARE, 1)
        self._known: set[Hashable] = set()
        self._brought: Counter[str] = Counter()

    def value(self, value: str | None, org: str) -> str:
        """The label for `value`, which a job of `org` has."""
        if value is None or not _PRINTABLE.fullmatch(value):
            return OTHER
        return value if self.admits(value, org) else OTHER

    def admits(self, value: Hashable, org: str) -> bool:
        """Whether there is room for `value`, or it is known already."""
        if value in self._known:
            return True
        if len(self._known) >= self._most or self._brought[org] >= self._most_of_one:
            return False
        self._known.add(value)
        self._brought[org] += 1
        return True
