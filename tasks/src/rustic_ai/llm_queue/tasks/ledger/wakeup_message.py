from __future__ import annotations

import base64
import json
from typing import Any

from ..call import CallKind
from ..job import Job
from ..names import TASK_NAME

#: What Celery may put behind a call; a wake-up has none of it.
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")


#: A job that stands for any in the template: the length and the form are a UUID's.
_PLACE_ID = "00000000-0000-0000-0000-000000000000"
_PLACE_PRIORITY = 7777777


def wakeup_message(job: Job) -> str:
    """The message that wakes a worker up for `job`, as Celery's `send_task` would put it into the list.

    Made here, so that a job and its wake-up are written in one step, by a process without Celery.
    """
    return json.dumps(_first_wakeup(job.id, job.queue, job.priority, _shown(job)))


def wakeup_template() -> str:
    """`wakeup_message` with `@NAME@` where messages differ, for the functions that send them in Redis.

    `@ENCODED-ID@` is the job id in base64: it begins at a multiple of three bytes, so it stands by itself.
    """
    text = json.dumps(_first_wakeup(_PLACE_ID, "@QUEUE@", _PLACE_PRIORITY, "@ARGUMENTS@"))
    encoded = base64.b64encode(_PLACE_ID.encode()).decode()
    places = {encoded: "@ENCODED-ID@", _PLACE_ID: "@ID@", str(_PLACE_PRIORITY): "@PRIORITY@"}
    for value, place in places.items():
        assert value in text
        text = text.replace(value, place)
    return text


def _first_wakeup(job_id: str, queue: str, priority: int, argsrepr: str) -> dict[str, Any]:
    return wakeup_envelope(
        job_id, queue, priority,
        argsrepr=argsrepr, kwargsrepr="", root_id=job_id, parent_id=None, origin=None, ignore_result=True,
    )  # fmt: skip


def _shown(job: Job) -> str:
    """What Flower and the logs show in place of the arguments; `wakeups.lua` has the same."""
    kind = f"kind={job.kind} texts={job.text_count} " if job.kind is not CallKind.CHAT else ""
    owner = job.owner
    return (
        f"{kind}model={job.model} org={owner.org} guild={owner.guild} agent={owner.agent} "
        f"~tokens={job.estimated_tokens}"
    )


def wakeup_envelope(job_id: str, queue: str, priority: int, **headers: Any) -> dict[str, Any]:
    """kombu's envelope of a call of `TASK_NAME`, with these of Celery's headers."""
    body = [[job_id], {}, dict.fromkeys(EMBEDDED)]
    return {
        "body": base64.b64encode(json.dumps(body).encode()).decode(),
        "content-type": "application/json",
        "content-encoding": "utf-8",
        "headers": {
            "lang": "py",
            "task": TASK_NAME,
            "id": job_id,
            "retries": 0,
            "timelimit": [None, None],
            "eta": None,
            "expires": None,
            **headers,
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": None,
            "priority": priority,
            "body_encoding": "base64",
            "delivery_tag": job_id,
            "delivery_info": {"exchange": "", "routing_key": queue},
        },
    }
