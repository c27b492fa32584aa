"""Many jobs' texts in one provider call.

Agents embed one text at a time, and a provider takes hundreds in a call. Jobs that agree on everything but
their texts, and belong to one organisation, share a call. Each of them still has an attempt, a lease and an
end of its own: sharing changes only how the texts travel.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Hashable, Sequence

from rustic_ai.llm_queue.tasks.policy.embedding_limits import EmbeddingLimits, token_estimate

from .shared_call import IsRefusal, OnCall, Part, Post, SharedCall
from .shares import Share

#: How long a call waits for the next job to share it, where others are about.
WINDOW_S = 0.010
#: How long it waits at most, however many come: taking them up takes the worker's CPU, and so would the calls
#: that sharing saves.
MOST_S = 0.150


class Gathering:
    """The calls that are being put together. Lives on one event loop."""

    def __init__(
        self,
        *,
        refused: IsRefusal,
        jobs_on_their_way: Callable[[], int],
        on_call: OnCall | None = None,
    ) -> None:
        """Args:
        refused: whether an error of a call means that the provider did not like one of its texts.
        jobs_on_their_way: how many jobs the worker is taking up, of which some may share a call.
        """
        self._refused, self._on_call, self._jobs_on_their_way = refused, on_call, jobs_on_their_way
        self._open: dict[Hashable, SharedCall] = {}
        #: How many calls of each key are under way: where one is, others may follow.
        self._under_way: Counter[Hashable] = Counter()

    async def embed(
        self, key: Hashable, texts: Sequence[str], *, limits: EmbeddingLimits, post: Post
    ) -> Share:
        """One job's part of a call that it may share with others of the same `key`.

        Raises what `post` raises; an error that one text causes reaches only the job of that text. A
        cancelled job leaves the call, which ends with the last that leaves it.
        """
        loop = asyncio.get_running_loop()
        part = Part(texts, sum(map(token_estimate, texts)), loop.create_future())
        shared = self._open.get(key)
        if shared is not None and not shared.has_room_for(part, limits):
            self._send(key)
            shared = None
        if shared is None:
            shared = self._open[key] = SharedCall(post, self._refused, self._on_call)
            # A job that is alone waits for nobody.
            company = self._jobs_on_their_way() or self._under_way[key]
            shared.timer = (
                loop.call_later(WINDOW_S, self._look, key, 0) if company else loop.call_soon(self._send, key)
            )
        shared.join(part)
        if shared.text_count >= limits.texts:
            self._send(key)
        return await shared.share_of(part)

    def _look(self, key: Hashable, seen: int) -> None:
        """Send the call, unless more jobs have joined since a window ago, when there were `seen`."""
        shared = self._open[key]
        if shared.joined > max(seen, 1) and shared.waited_s < MOST_S:
            loop = asyncio.get_running_loop()
            shared.timer = loop.call_later(WINDOW_S, self._look, key, shared.joined)
        else:
            self._send(key)

    def _send(self, key: Hashable) -> None:
        shared = self._open.pop(key, None)
        if shared is not None and (task := shared.start()):
            self._under_way[key] += 1
            task.add_done_callback(lambda _: self._ended(key))

    def _ended(self, key: Hashable) -> None:
        self._under_way[key] -= 1
        if not self._under_way[key]:
            del self._under_way[key]
