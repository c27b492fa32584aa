from __future__ import annotations

import base64
import json
from typing import Any

from ..call import CallKind
from ..job import Job
from ..names import TASK_NAME

#: What Celery may put behind a call; a wake-up has none of it.
EMBEDDED = ("callbacks", "errbacks", "chain", "chord")


def wakeup_message(job: Job) -> str:
    """The message that wakes a worker up for `job`, as Celery's `send_task` would put it into the list.

    Made here, so that a job and its wake-up are written in one step, by a process without Celery.
    """
    envelope = wakeup_envelope(
        job.id,
        job.queue,
        job.priority,
        # What Flower and the logs show in place of the arguments.
        argsrepr=_shown(job),
        kwargsrepr="",
        root_id=job.id,
        parent_id=None,
        origin=None,
        ignore_result=True,
    )
    return json.dumps(envelope)


def _shown(job: Job) -> str:
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
