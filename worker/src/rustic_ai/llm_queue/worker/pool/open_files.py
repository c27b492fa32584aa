from __future__ import annotations

import logging
import resource

logger = logging.getLogger(__name__)

#: Connections to Redis, LiteLLM's own files, event loop and logs: measured at about 60.
_BESIDES = 200


def allow_open_files(concurrency: int) -> None:
    """Let this process open as many files as it may: each call in flight is a connection.

    Many systems begin with 1,024 and allow far more to whoever asks.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if hard != resource.RLIM_INFINITY and hard < concurrency + _BESIDES:
        logger.warning(
            "This process may open %d files, too few for %d calls at a time "
            "(LLM_QUEUE_CONCURRENCY): raise the limit (ulimit -Hn, LimitNOFILE, --ulimit nofile) or lower it",
            hard,
            concurrency,
        )
