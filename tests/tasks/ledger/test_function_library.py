"""The ledger's Lua functions as a whole: what Redis knows of them, and what holds for every part."""

import inspect
import re
from datetime import timedelta
from importlib import resources

import pytest
from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger import flights as flights_module
from rustic_ai.llm_queue.tasks.ledger import ledger as ledger_module
from rustic_ai.llm_queue.tasks.ledger import turn_ledger
from rustic_ai.llm_queue.tasks.ledger.flights import Flights
from rustic_ai.llm_queue.tasks.ledger.functions.library import library_name, library_source
from rustic_ai.llm_queue.tasks.ledger.ledger import Ledger
from rustic_ai.llm_queue.tasks.ledger.limits import limit_ledger
from rustic_ai.llm_queue.tasks.ledger.limits.limit_ledger import LimitLedger
from rustic_ai.llm_queue.tasks.ledger.turn_ledger import TurnLedger
from support.servers.valkey import ValkeyServer
from support.workers.engine_kit import TTL, a_job

PARTS = {
    part.name: part.read_text()
    for part in (resources.files("rustic_ai.llm_queue.tasks.ledger") / "functions").iterdir()
    if part.name.endswith(".lua")
}


async def registered(url: str) -> set[str]:
    """The functions of this release that the server knows, once they are loaded."""
    async with Redis.from_url(url, decode_responses=True) as redis:
        await Ledger(redis, result_ttl=TTL).load()
        with_functions = await redis.function_list(library=library_name())
    listed = str(with_functions)
    return set(re.findall(rf"{library_name()}_(\w+)", listed))


async def test_every_function_has_a_method_of_its_name_and_every_call_a_function(
    valkey: ValkeyServer,
) -> None:
    names = await registered(valkey.url)
    methods = {
        name
        for ledger in (Ledger, LimitLedger, TurnLedger, Flights)
        for name, _ in inspect.getmembers(ledger, inspect.iscoroutinefunction)
    }
    called = {
        name
        for module in (ledger_module, limit_ledger, turn_ledger, flights_module)
        for name in re.findall(r'_library\.call\(\s*"(\w+)"', inspect.getsource(module))
    }
    assert names == called
    assert names <= methods


def test_every_part_is_loaded() -> None:
    for name, text in PARTS.items():
        assert text in library_source(), f"{name} is in no list of parts"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_no_part_spells_out_a_key(name: str) -> None:
    assert "llmq:" not in PARTS[name], "key names come from keys.py"
    assert "celery-task-meta" not in PARTS[name], "key names come from keys.py"


@pytest.mark.parametrize("name", sorted(PARTS))
def test_functions_name_their_arguments_on_their_first_line(name: str) -> None:
    functions = re.findall(r"^local function (\w+)\((?:keys|_), args\)\n(.*)", PARTS[name], re.MULTILINE)
    for function, first in functions:
        named = re.match(r"  local [\w, ]+ = (unpack\(args(, 1, \d+)?\)|(tonumber\()?args\[1\]\)?)$", first)
        assert named, f"{function} begins with {first!r}"


@pytest.mark.leaves_keys("llm", "llmq:*")
async def test_a_renewal_of_many_jobs_is_sent_in_parts_and_loses_none(valkey: ValkeyServer) -> None:
    async with Redis.from_url(valkey.url, decode_responses=True) as redis:
        ledger = Ledger(redis, result_ttl=TTL)
        job = a_job()
        await ledger.submit(job)
        claim = await ledger.claim(job.id, worker="w", token="t", lease=timedelta(seconds=1), most_losses=2)
        gone = {f"gone-{number}": 1 for number in range(2_500)}
        before = await redis.info("commandstats")
        renewal = await ledger.renew({**gone, job.id: claim.epoch}, lease=timedelta(hours=1))
        after = await redis.info("commandstats")
        assert renewal.stop == dict.fromkeys(gone, "lost")
        until_ms = await redis.zscore("llmq:leases", job.id)
        assert until_ms is not None
        assert until_ms > renewal.now_ms + 3_000_000
        calls = after["cmdstat_fcall"]["calls"] - before["cmdstat_fcall"]["calls"]
        assert calls == 3, "at most a thousand jobs a call"
        assert (await ledger.renew({}, lease=timedelta(hours=1))).now_ms > 0
