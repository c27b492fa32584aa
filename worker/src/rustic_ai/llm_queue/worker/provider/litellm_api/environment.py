from __future__ import annotations

import os

from ...settings import MOST_CONCURRENT

#: Connections LiteLLM may hold: more than any worker has calls, whose number `-c` and remote control
#: change after LiteLLM has read its limit. What bounds them is the pool.
MOST_CONNECTIONS = MOST_CONCURRENT + 1_000


def prepare_environment() -> None:
    """Set what LiteLLM reads once, at its import. Does nothing about a variable the operator has set."""
    connections = str(MOST_CONNECTIONS)
    for name, value in {
        # The price map and header table in the package, so that nothing is fetched at start.
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
        "LITELLM_LOCAL_ANTHROPIC_BETA_HEADERS": "True",
        "LITELLM_LOCAL_BLOG_POSTS": "True",
        # No .env of the working directory among the worker's settings.
        "LITELLM_MODE": "PRODUCTION",
        "LITELLM_DISABLE_BUG_REPORT_LINK": "true",
        # At most 500 connections a host by default; 0 would not mean unlimited.
        "AIOHTTP_CONNECTOR_LIMIT": connections,
        "AIOHTTP_CONNECTOR_LIMIT_PER_HOST": connections,
        # A model that repeats itself is the caller's `max_tokens` to bound: an answer of 100 equal
        # chunks is no failure to be billed twice.
        "REPEATED_STREAMING_CHUNK_LIMIT": "1000000",
    }.items():
        os.environ.setdefault(name, value)
