"""A worker of a release from before fair share, beside one of this: nothing is lost, and nothing runs twice.

The older one's functions are these without turns: they send and claim wake-ups, and sort in nothing.
"""

import random
import re
import uuid
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.job import Job
from rustic_ai.llm_queue.tasks.ledger.functions import library
from support.servers.valkey import ValkeyServer
from support.workers.turns_kit import Hands

pytestmark = pytest.mark.leaves_keys("llm*", "llmq:*")

OLDER = "llmq_older"
TURNS = ("waits_its_turn", "take_turns", "correct_charge", "end_charge")


def older_source() -> str:
    """This release's functions, of which those that keep turns do nothing."""
    source = library.library_source()
    for function in TURNS:
        source, found = re.subn(rf"(\nlocal function {function}\([^)]*\)\n)", r"\1  do return end\n", source)
        assert found == 1, function
    return source.replace(library.library_name(), OLDER)


class OlderHands(Hands):
    """An agent and a worker of the older release."""

    async def submit(self, org: str, guild: str = "g", tokens: int = 100, **fields: Any) -> Job:
        with self._older():
            return await super().submit(org, guild, tokens, **fields)

    async def claim(self, job_id: str) -> Job | None:
        with self._older():
            return await super().claim(job_id)

    async def finish(self, job: Job, used: tuple[int, int] | None = None) -> None:
        with self._older():
            await super().finish(job, used)

    @contextmanager
    def _older(self) -> Iterator[None]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(library, "library_name", lambda prefix="": OLDER)
            yield


async def test_an_older_worker_and_agent_do_no_harm(valkey: ValkeyServer) -> None:
    dice = random.Random(uuid.uuid4().int)
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        await redis.function_load(older_source(), replace=True)
        new, old = Hands(redis), OlderHands(redis)
        jobs = new.jobs = old.jobs = {}
        for number in range(300):
            submitter = old if number % 10 == 9 else new
            await submitter.submit("batch", f"g{number % 3}", tokens=dice.choice([10, 1_000]))
        under_way: list[tuple[Hands, Job]] = []
        for step in range(2_000):
            hands = dice.choice([new, old])
            if len(under_way) < 12 and (job := await hands.take()) is not None:
                under_way.append((hands, job))
            if under_way and dice.random() < 0.7:
                holder, job = under_way.pop(dice.randrange(len(under_way)))
                await holder.finish(job, used=(50, dice.choice([1, 500])))
            if step % 40 == 0:
                await dice.choice([new, old]).submit("single")
                # The reaper of the new one.
                await new.share()
        await new.run()
        for holder, job in under_way:
            await holder.finish(job)
        await new.run()
        taken = Counter(job.id for job in (*new.taken, *old.taken))
        assert taken == Counter(list(jobs)), "each job was taken once"
        assert old.taken
        assert new.taken
        assert not await new.places()
        assert not await redis.exists("llmq:flows:llm:3")
