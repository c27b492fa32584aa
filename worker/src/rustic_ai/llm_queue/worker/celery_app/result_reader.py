from __future__ import annotations

from typing import Any

from celery.backends.redis import RedisBackend


class ResultReader(RedisBackend):  # type: ignore[misc]  # celery is untyped
    """Celery's result backend for Flower and `AsyncResult`, which only reads.

    A job's result is stored in the step that ends the job. Celery would write beside it: told to
    quit, it marks every running task as to be retried, in the place of its answer.
    """

    def store_result(self, task_id: str, result: Any, state: str, *_: Any, **__: Any) -> Any:
        """Nothing is stored."""
        return result


def result_backend(redis_url: str, key_tag: str = "") -> str | None:
    """Celery's `result_backend` for the queue's Redis; None for Sentinel and for keys with a tag, which it
    cannot follow here."""
    if redis_url.startswith("sentinel:") or key_tag:
        return None
    if redis_url.startswith("rediss:") and "ssl_cert_reqs=" not in redis_url:
        # Celery needs this even where it is the default elsewhere.
        redis_url += f"{'&' if '?' in redis_url else '?'}ssl_cert_reqs=required"
    return f"{__name__}:{ResultReader.__name__}+{redis_url}"
