from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from itertools import batched
from typing import cast

from redis.asyncio import Redis

from ...attempt import AttemptRecord
from .. import keys
from ..call_use import CallUse
from ..functions.library import FunctionLibrary
from ..verdicts import Admission, BudgetAmounts, PauseVerdict
from ..wire import attempts_json, milliseconds, used_args
from .budget_ask import BudgetAsk
from .learned_tokens import LearnedTokens
from .limit_ask import LimitAsk


class LimitLedger:
    """The limits that all workers share: jobs pass them, or wait for them in Redis and in no worker.

    Every method raises redis-py's `ConnectionError` or `TimeoutError` once the client's retries are
    used up, and may be sent twice.
    """

    def __init__(self, redis: Redis) -> None:
        self._library = FunctionLibrary(redis)
        #: What workers have learned of models.
        self.learned = LearnedTokens(redis)

    async def admit(
        self,
        job_id: str,
        epoch: int,
        limits: Sequence[LimitAsk | BudgetAsk],
        *,
        begun: int,
        ended: Iterable[AttemptRecord],
        longest_wait: timedelta | None = None,
        used: CallUse | None = None,
    ) -> Admission:
        """Take what the job's next provider call needs of `limits`.

        Where one has no room the job waits: it is not this worker's any more, and comes back to the
        queue by itself when all of them have let it through.

        Args:
            limits: narrow ones before wide ones; what is passed is kept while it waits for the next.
            begun: the provider calls before this one.
            ended: those of them whose end is known.
            longest_wait: from its first wait on; None for its deadline, 0 to be refused at once.
            used: what the call before this one took, where that is known.
        """
        longest = "" if longest_wait is None else milliseconds(longest_wait)
        args = [job_id, epoch, begun, attempts_json(ended), longest, *used_args(used)]
        words = [word for limit in limits for word in limit.words()]
        verdict, *rest = await self._library.call("admit", [keys.job_key(job_id)], [*args, *words])
        if not rest:
            return Admission(verdict)
        limit, retry_after_ms, ahead, *amounts = rest
        retry_after = None if retry_after_ms < 0 else timedelta(milliseconds=retry_after_ms)
        budgets = tuple(BudgetAmounts(*map(int, one)) for one in batched(amounts, 3, strict=True))
        return Admission(verdict, limit or None, retry_after, ahead, budgets)

    async def pause(
        self,
        job_id: str,
        epoch: int,
        pause: timedelta,
        *,
        begun: int,
        ended: Iterable[AttemptRecord],
        used: CallUse | None = None,
    ) -> PauseVerdict:
        """Hand a held job back until its next attempt is due; it then comes to the queue by itself."""
        args = [job_id, epoch, begun, attempts_json(ended), milliseconds(pause), *used_args(used)]
        return cast(PauseVerdict, await self._library.call("pause", [keys.job_key(job_id)], args))

    async def cool(
        self, limit: LimitAsk, pause: timedelta | None, *, longest: timedelta, why: str
    ) -> timedelta:
        """Close a limit to all jobs of all workers, and return for how long.

        Args:
            pause: as the provider asks for it; None to double with each that follows another.
            longest: whatever is asked for.
        """
        asked = "" if pause is None else milliseconds(pause)
        args = [limit.id, asked, milliseconds(longest), why, limit.request_burst_us, limit.token_burst_us]
        return timedelta(milliseconds=await self._library.call("cool", [], args))

    async def hold_off(self, limit_id: str, requests_us: int, tokens_us: int, output_us: int) -> None:
        """Move a limit's buckets at least so far ahead of the clock: the provider has less left than ours."""
        await self._library.call("hold_off", [], [limit_id, requests_us, tokens_us, output_us])

    async def pause_limit(self, name: str, *, until_ms: int | None = None) -> None:
        """Close all limits of a name: until a time on Redis' clock, or until they are resumed."""
        await self._library.call("pause_limit", [], [name, "" if until_ms is None else until_ms * 1000])

    async def resume_limit(self, name: str) -> int:
        """Open all limits of a name, paused by an operator or closed by a provider. Returns their number."""
        return int(await self._library.call("resume_limit", [], [name]))

    async def set_budgets(self, ids: Sequence[str], cap: int | None) -> int:
        """Set budgets until their period ends, in nanodollars or tokens; None for the policy's amount.

        Jobs that wait for one are looked at. Returns how many of them there are.
        """
        return int(await self._library.call("set_budgets", [], ["" if cap is None else cap, *ids]))

    async def spend_budgets(self, amounts: Mapping[str, int]) -> int:
        """Set what budgets have spent, in nanodollars or tokens by id. Returns how many there are."""
        words = [word for pair in amounts.items() for word in pair]
        return int(await self._library.call("spend_budgets", [], words))

    async def tick(self, *, most: int = 100) -> timedelta | None:
        """Start the jobs whose time has come. Returns the time until there is more to do, if any waits."""
        after_ms = await self._library.call("tick", [], [most])
        return None if after_ms < 0 else timedelta(milliseconds=after_ms)

    async def give_up(self, job_id: str) -> bool:
        """Give back what a cancelled job held. False when it held nothing, or has not ended."""
        return bool(await self._library.call("give_up", [], [job_id]))

    async def repair_limits(self, *, most: int = 1_000) -> int:
        """Put right what no step did, and return how much that was: in order it is nothing."""
        return int(await self._library.call("repair_limits", [], [most]))
