"""Many jobs' texts in one provider call.

Agents embed one text at a time, and a provider takes hundreds in a call. Jobs that agree on everything but
their texts, and belong to one organisation, share a call. Each of them still has an attempt, a lease and an
end of its own: sharing changes only how the texts travel.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.policy.embedding_limits import EmbeddingLimits, token_estimate

from ..wire.exchange import answer_has_begun, note_exchange
from .answer import Vectors
from .shares import Share, shares_of

#: How long a job waits for others to share its call, where others are about.
WINDOW_S = 0.010
#: How long it waits at most while the worker is still taking up jobs, which may be some to share with: that
#: takes the worker's CPU, and so would the calls that sharing saves.
MOST_S = 0.200


@dataclass(frozen=True)
class Answer:
    """What a provider call brought, and what it cost."""

    vectors: Vectors
    cost_usd: float | None


#: Makes one provider call for these texts.
Post = Callable[[Sequence[str]], Awaitable[Answer]]
#: Notified of each provider call, by its number of texts and of jobs.
OnCall = Callable[[int, int], None]


class Gathering:
    """The calls that are being put together. Lives on one event loop."""

    def __init__(
        self,
        *,
        refused: Callable[[Exception], bool],
        jobs_on_their_way: Callable[[], int],
        on_call: OnCall | None = None,
    ) -> None:
        """Args:
        refused: whether an error of a call means that the provider did not like one of its texts.
        jobs_on_their_way: how many jobs the worker is taking up, of which some may share a call.
        """
        self._refused, self._on_call, self._jobs_on_their_way = refused, on_call, jobs_on_their_way
        self._open: dict[Hashable, _SharedCall] = {}
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
        part = _Part(texts, sum(map(token_estimate, texts)), loop.create_future())
        shared = self._open.get(key)
        if shared is not None and not shared.has_room_for(part, limits):
            self._send(key)
            shared = None
        if shared is None:
            shared = self._open[key] = _SharedCall(post, self._refused, self._on_call)
            # A job that is alone waits for nobody.
            company = self._jobs_on_their_way() or self._under_way[key]
            shared.timer = loop.call_later(WINDOW_S if company else 0, self._look, key)
        shared.join(part)
        if shared.text_count >= limits.texts:
            self._send(key)
        return await shared.share_of(part)

    def _look(self, key: Hashable) -> None:
        """Send the call, unless more jobs may be about to join it."""
        loop, shared = asyncio.get_running_loop(), self._open[key]
        if self._jobs_on_their_way() and loop.time() - shared.since_s < MOST_S:
            shared.timer = loop.call_later(WINDOW_S, self._look, key)
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


@dataclass(frozen=True)
class _Failure:
    error: Exception
    #: The provider had begun an answer: what was wrong with it is no fault of the worker's.
    answered: bool

    def raise_here(self) -> None:
        """Raise it as if the task that asks had made the call itself."""
        note_exchange(answered=self.answered)
        raise self.error


@dataclass(eq=False)
class _Part:
    texts: Sequence[str]
    tokens: int
    result: asyncio.Future[Share | _Failure]


class _SharedCall:
    def __init__(
        self,
        post: Post,
        refused: Callable[[Exception], bool],
        on_call: OnCall | None,
    ) -> None:
        self._post, self._refused, self._on_call = post, refused, on_call
        self.since_s = asyncio.get_running_loop().time()
        #: When it is looked at next.
        self.timer: asyncio.TimerHandle
        self._parts: list[_Part] = []
        self._task: asyncio.Task[None] | None = None
        self.text_count = self.token_count = 0

    def has_room_for(self, part: _Part, limits: EmbeddingLimits) -> bool:
        """Whether the provider takes these texts beside those there are."""
        return (
            self.text_count + len(part.texts) <= limits.texts
            and self.token_count + part.tokens <= limits.tokens
        )

    def join(self, part: _Part) -> None:
        """Take part in the call, which has not begun."""
        self._parts.append(part)
        self.text_count += len(part.texts)
        self.token_count += part.tokens

    def start(self) -> asyncio.Task[None] | None:
        """Make the call, for all that have joined and not left; None when nobody is left."""
        self.timer.cancel()
        if self._parts:
            self._task = asyncio.create_task(self._carry(self._parts), name="embeddings")
        return self._task

    async def share_of(self, part: _Part) -> Share:
        """Wait for the part's result."""
        try:
            result = await part.result
        except asyncio.CancelledError:
            self._leave(part)
            raise
        if isinstance(result, _Failure):
            result.raise_here()
        assert isinstance(result, Share)
        return result

    def _leave(self, part: _Part) -> None:
        part.result.cancel()
        if self._task is None:
            self._parts.remove(part)
            self.text_count -= len(part.texts)
            self.token_count -= part.tokens
        elif all(one.result.done() for one in self._parts):
            # Closes the provider's connection: nobody waits for the answer any more.
            self._task.cancel()

    async def _carry(self, parts: Sequence[_Part]) -> None:
        texts = [text for part in parts for text in part.texts]
        if self._on_call is not None:
            self._on_call(len(texts), len(parts))
        try:
            answer = await self._post(texts)
        except Exception as error:
            if len(parts) > 1 and self._refused(error):
                await self._carry_halves(parts)
                return
            failure = _Failure(error, answer_has_begun())
            _conclude(parts, [failure] * len(parts))
            return
        shares = shares_of(
            answer.vectors,
            answer.cost_usd,
            counts=[len(part.texts) for part in parts],
            weights=[part.tokens for part in parts],
        )
        _conclude(parts, shares)

    async def _carry_halves(self, parts: Sequence[_Part]) -> None:
        """Ask again in two calls: a refusal does not name the text that caused it."""
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            waiting = [part for part in half if not part.result.done()]
            if waiting:
                await self._carry(waiting)


def _conclude(parts: Sequence[_Part], results: Sequence[Share | _Failure]) -> None:
    for part, result in zip(parts, results, strict=True):
        if not part.result.done():
            part.result.set_result(result)
