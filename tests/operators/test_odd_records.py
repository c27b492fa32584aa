"""Records that no program of ours wrote: skipped, counted, and shown without what steers a terminal."""

import json
import time
import unicodedata
from collections.abc import Iterator

import pytest

from rustic_ai.llm_queue.tasks.ledger import keys
from support.processes.command import LlmQueue
from support.servers.valkey import ValkeyServer

#: ESC, a C1 control, and a turn of the direction of writing: what a tenant may call itself.
EVIL = "a\x1b[2Jb\x9b31mc\N{RIGHT-TO-LEFT OVERRIDE}d"
STEERING = {"Cc", "Cf", "Cs", "Zl", "Zp"}
DAY = int(time.time()) // 86_400
COMMANDS = (
    ("jobs",),
    ("dead", "list"),
    ("quarantine", "list"),
    ("costs", "--by", "org,guild,agent,model"),
    ("top", "--once"),
    ("doctor",),
)


@pytest.fixture(scope="module")
def odd_server() -> Iterator[ValkeyServer]:
    """A server whose every record is odd."""
    with ValkeyServer() as server, server.client() as client:
        for at, (field, value) in enumerate(
            [("created_ms", "x"), ("created_ms", "9" * 5_000), ("model", EVIL), ("owner", "[")]
        ):
            job_id = f"odd {at} {EVIL}"
            client.hset(keys.job_key(job_id), field, value)
            for index in (keys.queued_key("llm", 0), keys.DEADLINES, keys.LEASES, keys.DEAD):
                client.zadd(index, {job_id: at})
        client.set(keys.job_key("a text"), "not a record")
        for index in (keys.queued_key("llm", 3), keys.DEADLINES, keys.LEASES, keys.DEAD):
            client.zadd(index, {"a text": 9})
        client.lpush(keys.QUARANTINE, "not JSON", "{}", _quarantined(EVIL))
        good = json.dumps([EVIL, "agent", "m"])
        client.hset(keys.costs_key(DAY), mapping={"": 1, EVIL: 1})
        rows = {f"jobs {good}": 2, f"pico_usd {good}": 10**12, "jobs not JSON": 1, "jobs [1,2,3]": 1}
        client.hset(keys.costs_key(DAY, EVIL), mapping={**rows, 'jobs ["a","b","c"]': "many"})
        minute = {f"jobs {EVIL}": 1, "tokens x": "x", "jobs y": "9" * 5_000}
        client.hset(keys.minute_key(int(time.time()) // 60), mapping=minute)
        yield server


@pytest.fixture
def odd(odd_server: ValkeyServer, llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch) -> LlmQueue:
    """The command on that server."""
    monkeypatch.setenv("LLM_QUEUE_REDIS_URL", odd_server.url)
    return llm_queue


def _quarantined(text: str) -> str:
    known = {"received_at_ms": 10**18, "size": 1, "sha256": text, "body_base64": "", "reason": text}
    return json.dumps({**known, "queue": text})


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.parametrize("as_json", [False, True], ids=["table", "json"])
def test_a_command_survives_them_and_shows_no_control(
    odd: LlmQueue, command: tuple[str, ...], as_json: bool
) -> None:
    ran = odd(*command, *(["--json"] if as_json else []))
    assert ran.exit_code == (1 if command == ("doctor",) else 0), ran
    assert "Traceback" not in ran.err
    steering = {one for one in ran.out + ran.err if unicodedata.category(one) in STEERING}
    assert steering <= {"\n"}
    if as_json:
        json.loads(ran.out)


def test_what_is_left_out_is_counted(odd: LlmQueue) -> None:
    quarantine = odd("quarantine", "list", "--json")
    assert len(json.loads(quarantine.out)) == 1
    assert "2 records could not be read and are left out" in quarantine.err
    costs = odd("costs", "--json")
    assert json.loads(costs.out)["total"]["cost_usd"] == "1.000000000000"
    assert "3 records could not be read and are left out" in costs.err
    jobs = json.loads(odd("jobs", "--json").out)
    assert [one["state"] for one in jobs] == [None] * 5
    assert "holds something else" in jobs[-1]["why"]


def test_a_good_record_behind_an_odd_one_is_shown(
    llm_queue: LlmQueue, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ValkeyServer() as server, server.client() as client:
        monkeypatch.setenv("LLM_QUEUE_REDIS_URL", server.url)
        client.hset(keys.job_key("odd"), "created_ms", "x")
        client.hset(keys.job_key("old"), "created_ms", int(time.time() - 90) * 1000)
        client.zadd(keys.queued_key("llm", 0), {"odd": 1})
        client.zadd(keys.queued_key("llm", 3), {"old": 1})
        queues = json.loads(llm_queue("top", "--json").out)["queues"]
        assert [one["waiting"] for one in queues] == [1, 1]
        assert queues[0]["oldest_wait_s"] == 0
        assert 80 < queues[1]["oldest_wait_s"] < 120
        assert "the oldest for " in llm_queue("doctor").out
