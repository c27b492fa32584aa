from __future__ import annotations

from collections.abc import Sequence

from rustic_ai.llm_queue.tasks.policy.embedding_limits import EmbeddingLimits, token_estimate

#: A job's vectors are one record in Redis: 256 of 1,536 numbers are 2 MB.
MOST_TEXTS_OF_A_JOB = 256


def split(texts: Sequence[str], limits: EmbeddingLimits) -> list[list[str]]:
    """The texts of each job, in order: as many as one provider call takes, and one result holds.

    A text that is too long for any call goes by itself: the provider, or the worker, refuses it by name.
    """
    most = min(limits.texts, MOST_TEXTS_OF_A_JOB)
    jobs: list[list[str]] = []
    room = 0
    for text in texts:
        tokens = token_estimate(text)
        if not jobs or len(jobs[-1]) >= most or tokens > room:
            jobs.append([])
            room = limits.tokens
        jobs[-1].append(text)
        room -= tokens
    return jobs
