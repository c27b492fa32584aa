"""Fair share through real workers and a provider of this run's own.

    cd tests && python -m faults.shows.fair_share batch   [--jobs 10000] [--guilds 1]
    cd tests && python -m faults.shows.fair_share weights [--jobs 4000]
    cd tests && python -m faults.shows.fair_share tokens  [--jobs 10000] [--by org|guild]
    cd tests && python -m faults.shows.fair_share alone   [--jobs 2000] [--rounds 4]
    cd tests && python -m faults.shows.fair_share ageing  [--seconds 40]
    cd tests && python -m faults.shows.fair_share memory  [--jobs 20000]

`batch`: how long another organisation's single calls wait for a worker while a batch, split over so many
guilds, waits. `weights`: two organisations of weights 4 and 1, whose jobs four submitters send in unequal
parts. `tokens`: Jain's index of the tokens of fifty organisations, or guilds of one, whose answers have 100
to 100,000 of them. `alone`: one tenant's throughput with turns and without, alternating. `ageing`: the
longest wait of bursts at priority `batch`, too many for the one wake-up in sixteen, while jobs of
`interactive` wait all the time. `memory`: what a waiting job takes of Redis. Exits with 1 where a figure
misses what docs/fair_share.md promises.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from statistics import median

from faults.scene import Scene, own_scene
from rustic_ai.llm_queue.resolver import JobHandle, QueueLLM
from rustic_ai.llm_queue.resolver.properties import Properties
from rustic_ai.llm_queue.tasks.job import JobState
from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.owner import Owner
from support.callers.llm import ask
from support.processes.scratch import scratch_dir
from support.providers.provider import Step

MODEL = "openai/gpt-4o-mini"
_AT_ONCE = 64
_WORKERS, _PLACES, _CALL_S = 2, 25, 0.1
_TIMEOUT_S = 3_000
#: Jobs of `interactive` that wait all the time, some seconds' work.
_FLOOD = 600
#: Jobs of `batch` at once: one in sixteen alone would take 24 s for them.
_BURST = 120


@contextmanager
def scene(policy: str, *, workers: int = _WORKERS, places: int = _PLACES, **settings: str) -> Iterator[Scene]:
    """Workers under a `[fair_share]` of that text."""
    with own_scene() as made:
        start_workers(made, policy, workers, places, **settings)
        yield made


def start_workers(here: Scene, policy: str, workers: int, places: int, **settings: str) -> None:
    """Start workers under a `[fair_share]` of that text."""
    path = scratch_dir("policy") / "policy.toml"
    path.write_text(f"[fair_share]\n{policy}\n")
    env = {"POLICY": str(path), "CONCURRENCY": str(places), **settings}
    here.start_workers(workers, env, quick=False)


def llm_of(here: Scene, org: str, guild: str = "g", **properties: object) -> QueueLLM:
    """An agent of an organisation's guild."""
    owner = Owner(org=org, guild=guild, agent="a")
    return QueueLLM(
        Properties.load({"model": MODEL, "timeout": _TIMEOUT_S, **properties}), here.callers.settings, owner
    )


def always(agent: QueueLLM) -> Callable[[int], QueueLLM]:
    """For `submit`: all jobs are of one agent."""
    return lambda _: agent


def submit(llms: Callable[[int], QueueLLM], jobs: int, *tags: str) -> list[JobHandle]:
    """Submit jobs, several at once; `llms` gives the agent of each, and the tags follow in turn."""

    async def all_of_them() -> list[JobHandle]:
        places = asyncio.Semaphore(_AT_ONCE)

        async def one(number: int) -> JobHandle:
            async with places:
                return await llms(number).async_submit(ask(f"#{tags[number % len(tags)]}"))

        return list(await asyncio.gather(*(one(number) for number in range(jobs))))

    return asyncio.run(all_of_them())


def batch(jobs: int, guilds: int) -> bool:
    """Single calls of another organisation beside a batch."""
    with scene("") as here:
        here.provider.plan("*", Step(delay_s=_CALL_S, times=None))
        agents = [llm_of(here, "batch", f"g{number}") for number in range(guilds)]
        began = time.monotonic()
        submit(lambda number: agents[number % guilds], jobs, "batch")
        submitted_s = time.monotonic() - began
        single, waits_s = llm_of(here, "single"), list[float]()
        while len(here.provider.requests("batch")) < 0.9 * jobs and len(waits_s) < 300:
            response = single.completion(ask("#single"))
            waits_s.append(response.queue_wait_s or 0.0)
        made = len(here.provider.requests("batch"))
    waits_s.sort()
    p99_s = waits_s[int(0.99 * len(waits_s))]
    # A place of the worker that takes the job is released every so often.
    release_s = _CALL_S / _PLACES
    print(
        f"{jobs} jobs over {guilds} guilds, submitted in {submitted_s:.0f} s; {len(waits_s)} single calls "
        f"while {made} of the batch were made: waited p50 {median(waits_s):.3f} s, p99 {p99_s:.3f} s, "
        f"at the most {waits_s[-1]:.3f} s; a place is released every {release_s:.3f} s"
    )
    return p99_s <= 0.5 + release_s


def weights(jobs: int) -> bool:
    """Weights 4 and 1, whoever submits how many where."""
    with scene('weights = {"heavy" = 4}') as here:
        here.provider.plan("*", Step(delay_s=_CALL_S, times=None))
        heavy, light = llm_of(here, "heavy"), llm_of(here, "light")
        # Each of four submitters sends another part of both: the last one hardly any of the heavy.
        for part in (9, 5, 2, 1):
            submit(always(heavy), jobs * part // 17, "heavy")
            submit(always(light), jobs * (10 - part) // 23, "light")
        done = _made(here)
        here.until(
            lambda: max(_made(here).values()) >= jobs * 0.9, "one of them to be nearly done", _TIMEOUT_S
        )
        now = _made(here)
    # Those that ran while the others were still submitted are not among them.
    ran = {tag: now[tag] - done[tag] for tag in ("heavy", "light")}
    ratio = ran["heavy"] / ran["light"]
    print(f"{ran['heavy']} of weight 4, {ran['light']} of weight 1: {ratio:.3f} to 1")
    return abs(ratio / 4 - 1) <= 0.025


def _made(here: Scene) -> Counter[str]:
    return Counter(one.tag for one in here.provider.requests() if one.tag)


def tokens(jobs: int, by: str) -> bool:
    """Jain's index over what fifty organisations or guilds got in tokens, while all had jobs waiting.

    The answers have 100 to 100,000 tokens, and each flow has more of one size than of the others.
    """
    flows, sizes, dice = (
        [f"flow{number}" for number in range(50)],
        (100, 1_000, 10_000, 100_000),
        random.Random(7),
    )
    with scene("", workers=0) as here:
        for flow in flows:
            for size in sizes:
                answer = Step(prompt_tokens=0, completion_tokens=size, delay_s=_CALL_S, times=None)
                here.provider.plan(f"{flow}-{size}", answer)
        agents = [llm_of(here, flow) if by == "org" else llm_of(here, "one", flow) for flow in flows]
        # Half as many again as are run: all of them have jobs waiting to the end.
        for _ in range(jobs * 3 // 2 // len(flows)):
            submit(lambda at: agents[at], len(flows), *_tags(flows, sizes, dice))
        start_workers(here, "", _WORKERS, _PLACES)
        here.until(lambda: sum(_made(here).values()) >= jobs, "so many calls", _TIMEOUT_S)
        made = _made(here)
    got = {flow: sum(made[f"{flow}-{size}"] * size for size in sizes) for flow in flows}
    calls = [sum(made[f"{flow}-{size}"] for size in sizes) for flow in flows]
    sums = list(got.values())
    index = sum(sums) ** 2 / (len(sums) * sum(one**2 for one in sums))
    print(
        f"{jobs} calls of {len(flows)} {by}s, {min(calls)} to {max(calls)} of each: {min(sums):,} to "
        f"{max(sums):,} tokens; Jain's index {index:.3f}"
    )
    return index >= 0.98


def _tags(flows: list[str], sizes: tuple[int, ...], dice: random.Random) -> list[str]:
    """One job of each flow: of a size that those of its number like best."""
    bias = [[1 + 3 * (at == number % len(sizes)) for at in range(len(sizes))] for number in range(len(flows))]
    return [f"{flow}-{dice.choices(sizes, weights)[0]}" for flow, weights in zip(flows, bias, strict=True)]


def alone(jobs: int, rounds: int) -> bool:
    """Throughput of one tenant: turns against a window that takes all."""
    rates: dict[str, list[float]] = {"64": [], "1000000": []}
    for number in range(rounds):
        for window in sorted(rates, reverse=bool(number % 2)):
            with scene(f"ready_window = {window}", workers=1, places=200) as here:
                here.provider.plan("*", Step(delay_s=_CALL_S, times=None))
                agent = llm_of(here, "one")
                handles = submit(always(agent), jobs, "q")
                done, began = len(here.provider.requests("q")), time.monotonic()
                for handle in handles:
                    handle.result(_TIMEOUT_S)
                rates[window].append((jobs - done) / (time.monotonic() - began))
    with_turns, without = (rates["64"], rates["1000000"])
    pairs = [one / other for one, other in zip(with_turns, without, strict=True)]
    print(
        f"jobs a second with turns {median(with_turns):.0f}, without {median(without):.0f}; "
        f"pair by pair {median(pairs):.3f} ({min(pairs):.3f} to {max(pairs):.3f})"
    )
    return median(pairs) >= 0.98


def ageing(seconds: float) -> bool:
    """The longest wait at the lowest priority while jobs of the highest wait all the time."""
    ageing_s = 5.0
    with scene(f'ageing = "{ageing_s:g}s"', workers=1, places=8, REAP_EVERY="500ms") as here:
        here.provider.plan("*", Step(delay_s=_CALL_S, times=None))
        flood = llm_of(here, "flood", priority="interactive")
        patient = llm_of(here, "patient", priority="batch")
        waits_s, sent, least = list[float](), 0, 10**6
        ends, burst = time.monotonic() + seconds, list[JobHandle]()
        while time.monotonic() < ends or burst:
            waiting = sent - len(here.provider.requests("flood"))
            if sent >= _FLOOD:
                least = min(least, waiting)
            if waiting < _FLOOD:
                sent += len(submit(always(flood), 200, "flood"))
            if not burst:
                burst = submit(always(patient), _BURST, "patient")
            elif burst[-1].status() is JobState.ANSWERED:
                waits_s += [one.result().queue_wait_s or 0.0 for one in burst]
                burst = []
            time.sleep(0.02)  # the length of the run
        made = _made(here)
    part = made["flood"] / made["patient"] + 1
    print(
        f"{len(waits_s)} jobs at priority batch waited {max(waits_s):.1f} s at the most, while {least} or "
        f"more of priority interactive waited; one call in {part:.1f} was theirs; ageing {ageing_s:g} s"
    )
    return least > 0 and max(waits_s) <= 4 * ageing_s


def memory(jobs: int) -> bool:
    """What a waiting job takes of Redis, and what its wake-up would take beside it."""
    with scene("", workers=1, places=1) as here, here.server.client() as redis:
        here.provider.plan("*", Step(hold=True, times=None))
        agent = llm_of(here, "one")
        submit(always(agent), 1, "first")
        here.provider.wait_for_requests(1)
        before = int(redis.info("memory")["used_memory"])
        submit(always(agent), jobs, "waits")
        here.until(lambda: redis.llen("llmq:arrivals:llm") <= 1, "all to be sorted in", 300)
        job_bytes = (int(redis.info("memory")["used_memory"]) - before) / jobs
        window = keys.message_list("llm", 3)
        wakeup_bytes = redis.memory_usage(window, samples=0) / redis.llen(window)
    print(f"{jobs} jobs wait: {job_bytes:,.0f} bytes each; a wake-up for each is {wakeup_bytes:,.0f} more")
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("show", choices=("batch", "weights", "tokens", "alone", "ageing", "memory"))
    parser.add_argument("--jobs", type=int, default=4_000)
    parser.add_argument("--guilds", type=int, default=1)
    parser.add_argument("--rounds", type=int, default=4)
    parser.add_argument("--by", choices=("org", "guild"), default="org")
    parser.add_argument("--seconds", type=float, default=40.0)
    given = parser.parse_args()
    shows: dict[str, Callable[[], bool]] = {
        "batch": lambda: batch(given.jobs, given.guilds),
        "weights": lambda: weights(given.jobs),
        "tokens": lambda: tokens(given.jobs, given.by),
        "alone": lambda: alone(given.jobs, given.rounds),
        "ageing": lambda: ageing(given.seconds),
        "memory": lambda: memory(given.jobs),
    }
    return 0 if shows[given.show]() else 1


if __name__ == "__main__":
    sys.exit(main())
