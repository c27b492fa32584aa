"""Messages that a worker must survive, for its queue and for its control channel."""

import base64
import json
import uuid
from typing import Any

TASK = "rustic_ai.llm_queue.run_job"
CANARY = "sk-canary-7f3a"
_NONES = {"callbacks": None, "errbacks": None, "chain": None, "chord": None}


def wakeup(
    job_id: str | None = None,
    *,
    body: Any = None,
    headers: dict[str, Any] | None = None,
    properties: dict[str, Any] | None = None,
    **fields: Any,
) -> dict[str, Any]:
    """The envelope of a valid wake-up, with what is given put in place of its own."""
    job_id = job_id or str(uuid.uuid4())
    return {
        "body": encode([[job_id], {}, _NONES] if body is None else body),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {
            "lang": "py",
            "task": TASK,
            "id": job_id,
            "shadow": None,
            "eta": None,
            "expires": None,
            "group": None,
            "group_index": None,
            "retries": 0,
            "timelimit": [None, None],
            "root_id": job_id,
            "parent_id": None,
            "argsrepr": "model=test",
            "kwargsrepr": "",
            "origin": "gen1@test",
            "ignore_result": True,
            "replaced_task_nesting": 0,
            "stamped_headers": None,
            "stamps": {},
            **(headers or {}),
        },
        "properties": {
            "correlation_id": job_id,
            "reply_to": "",
            "delivery_mode": 2,
            "delivery_info": {"exchange": "", "routing_key": "llm"},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
            **(properties or {}),
        },
        **fields,
    }


def command(method: Any = "ping", *, body: Any = None, **fields: Any) -> dict[str, Any]:
    """The envelope of a remote-control command, with what is given put in place of its own."""
    call = {"method": method, "arguments": {}, "destination": None, "pattern": None, "matcher": None}
    return {
        "body": encode(call | (body or {})),
        "content-encoding": "utf-8",
        "content-type": "application/json",
        "headers": {"clock": 1, "expires": 0},
        "properties": {
            "delivery_mode": 2,
            "delivery_info": {"exchange": "celery.pidbox", "routing_key": ""},
            "priority": 0,
            "body_encoding": "base64",
            "delivery_tag": str(uuid.uuid4()),
        },
        **fields,
    }


def encode(body: Any) -> str:
    """A body as kombu puts it into an envelope."""
    return base64.b64encode(json.dumps(body).encode()).decode()


def without(envelope: dict[str, Any], *path: str) -> dict[str, Any]:
    """The envelope with one field, by its path, taken away."""
    copy: dict[str, Any] = json.loads(json.dumps(envelope))
    inner = copy
    for name in path[:-1]:
        inner = inner[name]
    del inner[path[-1]]
    return copy


def _raw(envelope: Any) -> bytes:
    return json.dumps(envelope).encode()


def _garbage() -> dict[str, bytes]:
    return {
        "empty object": b"{}",
        "not JSON": f"{CANARY} is not JSON".encode(),
        "truncated": _raw(wakeup())[:-40],
        "binary": bytes(range(256)) * 4,
        "not UTF-8": b'{"body": "\xff\xfe"}',
        "UTF-16": json.dumps(wakeup()).encode("utf-16"),
        "null": b"null",
        "number": b"7",
        "huge number": b"9" * 5_000,
        "not a number": b"NaN",
        "text": b'"text"',
        "list": b"[1, 2, 3]",
        "list of a wake-up": _raw([wakeup()]),
        "deep lists": b"[" * 30_000 + b"]" * 30_000,
        "deep objects": b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "too large": _raw(wakeup(padding="x" * 70_000)),
        "one byte": b"\x00",
        "pickle": b"\x80\x04\x95\x0f\x00\x00\x00\x00\x00\x00\x00\x8c\x05posix\x94.",
        "properties missing": _raw(without(wakeup(), "properties")),
        "properties a list": _raw(wakeup() | {"properties": []}),
        "properties null": _raw(wakeup() | {"properties": None}),
        "headers a text": _raw(wakeup() | {"headers": "x"}),
        "body missing": _raw(without(wakeup(), "body")),
        "body null": _raw(wakeup() | {"body": None}),
        "body a number": _raw(wakeup() | {"body": 5}),
        "body not base64": _raw(wakeup() | {"body": f"!!{CANARY}!!"}),
        "body not JSON": _raw(wakeup() | {"body": base64.b64encode(CANARY.encode()).decode()}),
        "body of an unknown encoding": _raw(wakeup(properties={"body_encoding": "rot13"})),
        "content type pickle": _raw(wakeup() | {"content-type": "application/x-python-serialize"}),
        "content type missing": _raw(without(wakeup(), "content-type")),
        "content encoding unknown": _raw(wakeup() | {"content-encoding": "klingon"}),
    }


def malformed_messages() -> dict[str, bytes]:
    """What must never reach a worker from its queue, by what is wrong with it."""
    job_id = str(uuid.uuid4())
    typed = {"__type__": "decimal", "__value__": "not a number"}
    bad_headers: dict[str, dict[str, Any]] = {
        "another task": {"task": "celery.backend_cleanup"},
        "an unknown task": {"task": f"posix.system.{CANARY}"},
        "task a list": {"task": ["a"]},
        "task null": {"task": None},
        "id not a UUID": {"id": "../../etc/passwd"},
        "id a number": {"id": 7},
        "id a list": {"id": [job_id]},
        "id another job's": {"id": str(uuid.uuid4())},
        "eta": {"eta": "2999-01-01T00:00:00"},
        "expires": {"expires": "nonsense"},
        "retries": {"retries": 3},
        "retries a text": {"retries": "x"},
        "time limit": {"timelimit": [1, 1]},
        "time limit a text": {"timelimit": "soon"},
        "group": {"group": job_id},
        "shadow": {"shadow": {"a": 1}},
        "stamped": {"stamped_headers": ["a"], "stamps": 5},
        "argsrepr a list": {"argsrepr": [CANARY]},
        "root id a mapping": {"root_id": {}},
    }
    bad_bodies: dict[str, Any] = {
        "body a mapping": {"args": [job_id], "kwargs": {}},
        "body too short": [[job_id], {}],
        "no arguments": [[], {}, _NONES],
        "two arguments": [[job_id, job_id], {}, _NONES],
        "argument another job's": [[str(uuid.uuid4())], {}, _NONES],
        "argument a mapping": [[{"job": job_id}], {}, _NONES],
        "arguments typed": [[typed], {}, _NONES],
        "keyword arguments": [[job_id], {"prompt": CANARY}, _NONES],
        "keyword arguments a list": [[job_id], [], _NONES],
        "callbacks": [[job_id], {}, _NONES | {"callbacks": [{"task": TASK}]}],
        "chain": [[job_id], {}, _NONES | {"chain": [{"task": TASK, "args": [job_id]}]}],
        "chord": [[job_id], {}, _NONES | {"chord": {"task": TASK}}],
        "unknown option": [[job_id], {}, _NONES | {"link": None}],
        "options a text": [[job_id], {}, "none"],
    }
    protocol_one = {"task": TASK, "id": job_id, "args": [job_id], "kwargs": {}}
    return {
        **_garbage(),
        **{name: _raw(wakeup(job_id, headers=headers)) for name, headers in bad_headers.items()},
        **{name: _raw(wakeup(job_id, body=body)) for name, body in bad_bodies.items()},
        "task missing": _raw(without(wakeup(), "headers", "task")),
        "id missing": _raw(without(wakeup(), "headers", "id")),
        "priority a text": _raw(wakeup(properties={"priority": "high"})),
        "priority out of range": _raw(wakeup(properties={"priority": 10**20})),
        "Celery's first protocol": _raw(wakeup(body=protocol_one) | {"headers": {}}),
        "a remote-control command": _raw(command()),
    }


def malformed_commands() -> dict[str, bytes]:
    """What must not harm a worker that hears it on its control channel, by what is wrong with it."""
    return {
        **_garbage(),
        "a wake-up": _raw(wakeup()),
        "delivery tag missing": _raw(without(command(), "properties", "delivery_tag")),
        "delivery tag a mapping": _raw(
            command() | {"properties": {"delivery_tag": {}, "body_encoding": "base64"}}
        ),
        "body a list": _raw(command() | {"body": encode([1])}),
        "method missing": _raw(command() | {"body": encode({"arguments": {}})}),
        "method a list": _raw(command(["ping"])),
        "method a path": _raw(command("os.system")),
        "arguments a list": _raw(command(body={"arguments": [1]})),
        "arguments typed": _raw(command(body={"arguments": {"__type__": "decimal", "__value__": "x"}})),
        "destination a number": _raw(command(body={"destination": 5})),
        "destination of numbers": _raw(command(body={"destination": [1]})),
        "pattern a number": _raw(command(body={"pattern": 1, "matcher": "glob"})),
        "reply to a text": _raw(command(body={"reply_to": "me", "ticket": "t"})),
        "reply to a number": _raw(command(body={"reply_to": {"exchange": 1, "routing_key": 2}})),
        "unknown field": _raw(command(body={"self": 1})),
        "clock a text": _raw(command(headers={"clock": "now"})),
        "clock huge": _raw(command(headers={"clock": 10**400})),
        "clock negative": _raw(command(headers={"clock": -1})),
        "headers null": _raw(command(headers=None)),
    }


def harmful_commands() -> dict[str, bytes]:
    """Commands of a valid form whose handlers fail."""
    return {
        "unknown method": _raw(command("no_such_method")),
        "revoke of a mapping": _raw(command("revoke", body={"arguments": {"task_id": {"a": 1}}})),
        "revoke of nothing": _raw(command("revoke")),
        "pool_grow by a text": _raw(command("pool_grow", body={"arguments": {"n": "x"}})),
        "unknown argument": _raw(command("ping", body={"arguments": {"nonsense": 1}})),
        "matcher unknown": _raw(command(body={"pattern": "*", "matcher": "nonsense"})),
        "pattern not a regular expression": _raw(command(body={"pattern": "(", "matcher": "pcre"})),
    }


def harmful_events() -> dict[str, bytes]:
    """Worker events of a valid form that make no sense to a worker that follows the others' gossip."""
    info = {"delivery_info": {"exchange": "celeryev", "routing_key": "worker.heartbeat"}}
    bodies: dict[str, Any] = {
        "a list of numbers": [1],
        "a text": CANARY,
        "no host name": {"type": "worker-heartbeat"},
        "host name a number": {"type": "worker-heartbeat", "hostname": 5, "timestamp": 1, "clock": 1},
        "clock a text": {"type": "worker-heartbeat", "hostname": "a@b", "timestamp": "x", "clock": "x"},
        "type missing": {"hostname": "a@b"},
        "type a list": {"hostname": "a@b", "type": [1]},
        "election": {"type": "worker-elect", "id": [], "clock": {}, "hostname": "a@b"},
    }
    envelope = command()
    properties = envelope["properties"] | info
    return {
        name: _raw(envelope | {"body": encode(body), "properties": properties, "headers": {}})
        for name, body in bodies.items()
    }
