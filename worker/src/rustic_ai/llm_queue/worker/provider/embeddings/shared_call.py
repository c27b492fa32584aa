from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.policy.embedding_limits import EmbeddingLimits

from ..wire.exchange import answer_has_begun, note_exchange
from .refused_text import RefusedText
from .shares import Answer, Share, joined, shares_of

#: Makes one provider call for these texts.
Post = Callable[[Sequence[str]], Awaitable[Answer]]
#: Notified of each provider call, by its number of texts and of jobs.
OnCall = Callable[[int, int], None]
#: Whether an error of a call means that the provider did not like one of its texts.
IsRefusal = Callable[[Exception], bool]


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
class Part:
    """One job's texts in a shared call, and what becomes of them."""

    texts: Sequence[str]
    tokens: int
    result: asyncio.Future[Share | _Failure]


class SharedCall:
    """One provider call, made for several jobs that wait for it."""

    def __init__(self, post: Post, refused: IsRefusal, on_call: OnCall | None) -> None:
        self._post, self._refused, self._on_call = post, refused, on_call
        self._since_s = asyncio.get_running_loop().time()
        #: When it is looked at next.
        self.timer: asyncio.Handle
        self._parts: list[Part] = []
        self._task: asyncio.Task[None] | None = None
        self.text_count = self.token_count = 0
        #: How many jobs have joined it, those that left among them.
        self.joined = 0

    @property
    def waited_s(self) -> float:
        """Seconds since it was opened."""
        return asyncio.get_running_loop().time() - self._since_s

    def has_room_for(self, part: Part, limits: EmbeddingLimits) -> bool:
        """Whether the provider takes these texts beside those there are."""
        return (
            self.text_count + len(part.texts) <= limits.texts
            and self.token_count + part.tokens <= limits.tokens
        )

    def join(self, part: Part) -> None:
        """Take part in the call, which has not begun."""
        self._parts.append(part)
        self.joined += 1
        self.text_count += len(part.texts)
        self.token_count += part.tokens

    def start(self) -> asyncio.Task[None] | None:
        """Make the call, for all that have joined and not left; None when nobody is left."""
        self.timer.cancel()
        if self._parts:
            self._task = asyncio.create_task(self._carry(self._parts), name="embeddings")
        return self._task

    async def share_of(self, part: Part) -> Share:
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

    def _leave(self, part: Part) -> None:
        part.result.cancel()
        if self._task is None:
            self._parts.remove(part)
            self.text_count -= len(part.texts)
            self.token_count -= part.tokens
        elif all(one.result.done() for one in self._parts):
            # Closes the provider's connection: nobody waits for the answer any more.
            self._task.cancel()

    async def _carry(self, parts: Sequence[Part]) -> None:
        texts = [text for part in parts for text in part.texts]
        try:
            answer = await self._call(texts, len(parts))
        except Exception as error:
            if len(texts) > 1 and self._refused(error):
                await self._carry_halves(parts)
            else:
                _fail(parts, error)
            return
        _share(parts, answer)

    async def _carry_halves(self, parts: Sequence[Part]) -> None:
        """Ask again in two calls: a refusal does not name the text that caused it."""
        if len(parts) == 1:
            await self._carry_alone(parts[0])
            return
        middle = len(parts) // 2
        for half in (parts[:middle], parts[middle:]):
            waiting = [part for part in half if not part.result.done()]
            if waiting:
                await self._carry(waiting)

    async def _carry_alone(self, part: Part) -> None:
        """One job's texts, whose call was refused, in smaller calls until a text is refused by itself.

        Where none is, the provider takes fewer texts in a call than was thought, and the job is answered.
        """
        found: list[Answer] = []
        middle = len(part.texts) // 2
        spans = [(middle, len(part.texts)), (0, middle)]
        try:
            while spans:
                start, end = spans.pop()
                try:
                    found.append(await self._call(part.texts[start:end], 1))
                except Exception as error:
                    if not self._refused(error):
                        raise
                    if end - start == 1:
                        # The texts after it are not asked for: the job fails in any case.
                        raise RefusedText(start, error, joined(found) if found else None) from error
                    middle = (start + end) // 2
                    spans += [(middle, end), (start, middle)]
            _share([part], joined(found))
        except Exception as error:
            _fail([part], error)

    async def _call(self, texts: Sequence[str], jobs: int) -> Answer:
        if self._on_call is not None:
            self._on_call(len(texts), jobs)
        return await self._post(texts)


def _share(parts: Sequence[Part], answer: Answer) -> None:
    shares = shares_of(
        answer.vectors,
        answer.cost_usd,
        counts=[len(part.texts) for part in parts],
        weights=[part.tokens for part in parts],
    )
    _conclude(parts, shares)


def _fail(parts: Sequence[Part], error: Exception) -> None:
    _conclude(parts, [_Failure(error, answer_has_begun())] * len(parts))


def _conclude(parts: Sequence[Part], results: Sequence[Share | _Failure]) -> None:
    for part, result in zip(parts, results, strict=True):
        if not part.result.done():
            part.result.set_result(result)
