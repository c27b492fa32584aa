from __future__ import annotations

#: Headers that decide where a request goes or where it ends: no call may name them.
FORBIDDEN_HEADERS = frozenset(
    {"connection", "content-length", "expect", "host", "keep-alive", "proxy-authorization", "te", "trailer",
     "transfer-encoding", "upgrade"}
)  # fmt: skip
