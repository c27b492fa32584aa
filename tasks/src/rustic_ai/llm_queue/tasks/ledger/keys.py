"""Names of keys and channels. The constants are the Lua functions' too (`library.py`)."""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Sequence

from ..names import EPOCHS_OF_A_GENERATION as EPOCHS_OF_A_GENERATION
from ..names import KEY_PREFIX
from ..names import MOST_GENERATIONS as MOST_GENERATIONS

#: Jobs that wait, by queue and priority: a sorted set of job id to the time (ms) its wake-up
#: was last sent.
QUEUED_PREFIX = f"{KEY_PREFIX}queued:"
#: Added to the time in that index of a job that waits for its turn, and whose wake-up was never sent.
UNANNOUNCED = 2**50
#: Jobs that run: a sorted set of job id to the time (ms) the lease ends.
LEASES = f"{KEY_PREFIX}leases"
#: Jobs that have not ended: a sorted set of job id to deadline (ms).
DEADLINES = f"{KEY_PREFIX}deadlines"
#: Jobs that ended because no attempt was left: a sorted set of job id to the time (ms) of death.
DEAD = f"{KEY_PREFIX}dead"
#: Jobs that were cancelled while they waited, and that no worker has reported yet: a list.
WITHDRAWN = f"{KEY_PREFIX}withdrawn"
MOST_WITHDRAWN = 100_000
#: Processes that wait for answers, by reply channel: a sorted set to the time (ms) each was first found
#: without a subscriber, 0 while it has one.
CALLERS = f"{KEY_PREFIX}callers"
#: The bytes of a result up to which it is published whole; a larger one is announced by the word `STORED`,
#: and read from its key.
MOST_PUBLISHED = 65_536
STORED = "stored"
#: Messages that no worker would take, the latest first: a list of JSON.
QUARANTINE = f"{KEY_PREFIX}quarantine"
#: Pub/sub channel on which running jobs are cancelled.
CANCEL_CHANNEL = f"{KEY_PREFIX}cancel"

#: What limits hold, each by `limit id`: a hash of its buckets and its closing, a sorted set of the jobs
#: that run within it to the time (ms) they were admitted, one of those that wait for it to their order.
LIMIT_PREFIX = f"{KEY_PREFIX}limit:"
RUNNING_PREFIX = f"{KEY_PREFIX}running:"
WAITING_PREFIX = f"{KEY_PREFIX}waiting:"
#: What a job holds of limits, by job id: a hash.
HELD_PREFIX = f"{KEY_PREFIX}held:"
#: The limits that are in use: a sorted set of limit id to the time (ms) it was last seen to begin.
LIMITS = f"{KEY_PREFIX}limits"
#: What workers have learned of the tokens that models take.
LEARNED = f"{KEY_PREFIX}learned"
#: When a limit has room for the first that waits, as far as time alone decides it (µs).
ALARMS = f"{KEY_PREFIX}alarms"
#: Jobs that wait for a time (ms): that of their next attempt, or the end of their longest wait.
PAUSED = f"{KEY_PREFIX}paused"
#: Limits that a provider has closed, to the time (µs) they open; they stay until a call went through.
CLOSED = f"{KEY_PREFIX}closed"
#: Limits that an operator has paused: a hash of limit name to the time (µs) it ends.
PAUSES = f"{KEY_PREFIX}pauses"

#: What a budget has spent and holds in one period, by `budget id`: a hash; and the budgets that are in use,
#: a sorted set of budget id to the time (ms) it began.
BUDGET_PREFIX = f"{KEY_PREFIX}budget:"
BUDGETS = f"{KEY_PREFIX}budgets"
#: Alerts of budgets that no worker has passed on yet: a list of JSON.
ALERTS = f"{KEY_PREFIX}alerts"

#: An equal call under way, by its `reuse_name`: a hash of the job that makes it and how often it was
#: handed over; the jobs that wait for its answer, a sorted set of job id to the time (ms) of submit; and
#: the flights that are looked after, a sorted set of name to the time (ms) of the next look.
FLIGHT_PREFIX = f"{KEY_PREFIX}flight:"
FOLLOWERS_PREFIX = f"{KEY_PREFIX}followers:"
FLIGHTS = f"{KEY_PREFIX}flights"

#: Answers kept for equal calls, by their `reuse_name`; when each of a scope was last used, a sorted set; and
#: counters that, raised, make what was kept before a miss.
CACHE_PREFIX = f"{KEY_PREFIX}cache:answer:"
CACHE_USED_PREFIX = f"{KEY_PREFIX}cache:used:"
CACHE_GENERATION_PREFIX = f"{KEY_PREFIX}cache:generation:"
#: The scopes that keep answers: a sorted set of the `CACHE_USED_PREFIX` keys to the time (s) of the last.
CACHE_SCOPES = f"{KEY_PREFIX}cache:scopes"

#: Jobs beyond the window that have arrived, the latest first, by queue: a list of ids. Its last entry is a
#: mark while there is a backlog.
ARRIVALS_PREFIX = f"{KEY_PREFIX}arrivals:"
#: A guild's waiting jobs, by queue, priority and guild: a sorted set of job id to the time (ms) it was
#: submitted.
BACKLOG_PREFIX = f"{KEY_PREFIX}backlog:"
#: The organisations with a backlog, by queue and priority, and the guilds of each: sorted sets to their tags.
FLOWS_PREFIX = f"{KEY_PREFIX}flows:"
#: The virtual time, by queue and priority: a hash of floors, and of the tags of idle flows.
VTIME_PREFIX = f"{KEY_PREFIX}vtime:"
#: What a job's turn was charged, by job id, until its end shows what it took.
CHARGED_PREFIX = f"{KEY_PREFIX}charged:"
#: The policy of fair shares, as the workers have it: a hash.
FAIR_SHARE = f"{KEY_PREFIX}fair_share"

COSTS_PREFIX = f"{KEY_PREFIX}costs:"
MINUTE_PREFIX = f"{KEY_PREFIX}minute:"
#: Tokens and waits of each guild in one minute: a hash.
FLOW_MINUTE_PREFIX = f"{KEY_PREFIX}minute_of_guilds:"
JOB_PREFIX = f"{KEY_PREFIX}job:"
STREAM_PREFIX = f"{KEY_PREFIX}stream:"
FRAMES_PREFIX = f"{KEY_PREFIX}frames:"
#: Celery's own naming, so that `AsyncResult(job_id)` and Flower read our results.
RESULT_PREFIX = "celery-task-meta-"
RESULT_CHANNEL_PREFIX = RESULT_PREFIX

#: The constants that begin channels: these bear no key tag.
CHANNELS = frozenset({"CANCEL_CHANNEL", "FRAMES_PREFIX", "RESULT_CHANNEL_PREFIX"})


def job_key(job_id: str) -> str:
    """The job's record, a hash."""
    return JOB_PREFIX + job_id


def queued_key(queue: str, priority: int) -> str:
    """The index of the jobs waiting in `queue` at `priority`."""
    return f"{QUEUED_PREFIX}{queue}:{priority}"


def limit_id(name: str, split: Sequence[str], key: bytes = b"") -> str:
    """One bucket of a limit: its name and a hash of the values it is split by, which may be private."""
    digest = hmac.new(key, json.dumps(list(split)).encode(), hashlib.sha256)
    return f"{name}:{digest.hexdigest()[:16]}"


def budget_id(name: str, split: Sequence[str], period: str, key: bytes = b"") -> str:
    """One budget in one period: its name, a hash of the values it is split by, and the period."""
    return f"{limit_id(name, split, key)}:{period}"


def message_list(queue: str, priority: int) -> str:
    """The list in which Celery's Redis transport keeps the messages of `queue` at `priority`."""
    return f"{queue}\x06\x16{priority}" if priority else queue


def result_key(job_id: str) -> str:
    """Celery's result key; also the channel the result is published on."""
    return RESULT_PREFIX + job_id


def idempotency_key(owner_hash: str, key_hash: str) -> str:
    """Maps a caller's idempotency key to a job id. Hashed: a caller's key may be private."""
    return f"{KEY_PREFIX}idem:{owner_hash}:{key_hash}"


def cache_key(name: str) -> str:
    """An answer kept for equal calls: its generation and the sealed answer."""
    return CACHE_PREFIX + name


def costs_key(day: int, org: str | None = None) -> str:
    """The books of a day, counted since 1970 in UTC: the index of its organisations, or one's rows."""
    return f"{COSTS_PREFIX}{day}" if org is None else f"{COSTS_PREFIX}{day}:{org}"


def minute_key(minute: int) -> str:
    """What went through in a minute, counted since 1970, by model."""
    return f"{MINUTE_PREFIX}{minute}"


def flow_minute_key(minute: int) -> str:
    """Tokens and waits of each guild in one minute, counted from 1970."""
    return f"{FLOW_MINUTE_PREFIX}{minute}"


def flow_names(org: str, guild: str) -> tuple[str, str]:
    """An organisation's flow, and its guild's, as turns know them: hashed, for names may be of any form."""

    def name(text: str) -> str:
        return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()[:16]

    return name(org), name(f"{org}/{guild}")


def flows_key(queue: str, priority: int, org_flow: str | None = None) -> str:
    """The organisations that have a backlog, or the guilds of one, to their tags."""
    return f"{FLOWS_PREFIX}{queue}:{priority}" + (f":{org_flow}" if org_flow else "")


def backlog_key(queue: str, priority: int, guild_flow: str) -> str:
    """A guild's jobs that wait for their turn, to the time (ms) each was submitted."""
    return f"{BACKLOG_PREFIX}{queue}:{priority}:{guild_flow}"


def stream_log_key(job_id: str) -> str:
    """The log of a job's frames, a Redis Stream whose ids are `epoch-sequence`."""
    return STREAM_PREFIX + job_id


def stream_channel(job_id: str) -> str:
    """The pub/sub channel of a job's frames, each as `epoch-sequence:frame`."""
    return FRAMES_PREFIX + job_id
