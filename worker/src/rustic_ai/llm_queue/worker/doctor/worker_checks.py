from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from celery import Celery

from rustic_ai.llm_queue.tasks.settings import QueueSettings

from ..celery_app.worker_check import WORKER_CHECK
from .finding import Finding, bad, doubtful, good
from .redis_checks import MOST_SKEW_S

#: Workers answer in milliseconds; one whose process is busy starting takes longer.
_ANSWER_S = 2.0


def ask_workers(app: Celery, models: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Each live worker's answer about itself, by its name."""
    inspect = app.control.inspect(timeout=_ANSWER_S)
    answers = dict(inspect._request(WORKER_CHECK, models=list(models)) or {})
    return {name: answer if isinstance(answer, dict) else {} for name, answer in answers.items()}


def check_workers(
    answers: Mapping[str, Mapping[str, Any]], models: Sequence[str], settings: QueueSettings
) -> list[Finding]:
    """Findings from the workers' answers."""
    if not answers:
        says = f"none answered within {_ANSWER_S:g} s: jobs wait until their deadline"
        return [bad("workers", says, "start one with `llm-queue worker`, with the same LLM_QUEUE_REDIS_URL")]
    findings = [good("workers", f"{len(answers)} alive: {', '.join(sorted(answers))}")]
    sane = {name: answer for name, answer in answers.items() if isinstance(answer.get("models"), dict)}
    if dumb := sorted(answers.keys() - sane.keys()):
        mend = "they may be of an older release, or hang: look at their logs"
        findings.append(doubtful("workers", f"no report from {', '.join(dumb)}", mend))
    findings += _clocks(sane)
    findings += _keys(sane, settings)
    findings += _policies(sane)
    findings += [_model(model, sane) for model in models if sane]
    return findings


def _keys(answers: Mapping[str, Mapping[str, Any]], settings: QueueSettings) -> list[Finding]:
    ours = settings.key_ring().ids
    findings = []
    for name, answer in sorted(answers.items()):
        theirs = answer.get("sealing_keys") or []
        if bool(ours) != bool(theirs) or (ours and ours[0] not in theirs):
            says = f"{name} has keys {theirs or 'none'}, this environment {ours or 'none'}"
            findings.append(bad("sealing", says, "give LLM_QUEUE_SEALING_KEYS the same keys on both sides"))
    return findings


def _policies(answers: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    by_policy: dict[str, list[str]] = {}
    for name, answer in sorted(answers.items()):
        if isinstance(policy := answer.get("policy"), str):
            by_policy.setdefault(policy, []).append(name)
    if len(by_policy) < 2:
        return []
    groups = " and ".join(f"{', '.join(names)} ({policy[:12]})" for policy, names in by_policy.items())
    mend = "give all the same LLM_QUEUE_POLICY: a call is held to the rules of the worker that takes it"
    return [doubtful("policy", f"workers have different policies: {groups}", mend)]


def _clocks(answers: Mapping[str, Mapping[str, Any]]) -> list[Finding]:
    findings = []
    for name, answer in sorted(answers.items()):
        skew_s = float(answer.get("clock_skew_s") or 0)
        if abs(skew_s) > MOST_SKEW_S:
            says = f"{name}'s clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} Redis'"
            mend = "run NTP on its machine: by more than an hour, and it takes sealed requests for stale ones"
            findings.append(doubtful("clock", says, mend))
    return findings


def _model(model: str, answers: Mapping[str, Mapping[str, Any]]) -> Finding:
    check = f"model {model}"
    troubles = {name: trouble for name, answer in answers.items() if (trouble := answer["models"].get(model))}
    if not troubles:
        return good(check, "can be called")
    first = next(iter(troubles.values()))
    if len(troubles) < len(answers):
        return doubtful(check, f"only some workers can call it: {', '.join(troubles)} cannot", first)
    return bad(check, "no worker can call it", first)
