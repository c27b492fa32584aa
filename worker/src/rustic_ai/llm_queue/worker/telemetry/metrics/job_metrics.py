from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

from rustic_ai.llm_queue.tasks.attempt import AttemptRecord
from rustic_ai.llm_queue.tasks.job import JobRecord
from rustic_ai.llm_queue.tasks.outcome import Account, Failed, Outcome
from rustic_ai.llm_queue.tasks.owner import Owner

from ...jobs.execution import Execution
from ...jobs.observers import Observer
from ..job_log import model_of
from .bounded_labels import OTHER, BoundedLabels

#: Why the ledger refuses: the job has ended, is another worker's, or became another's meanwhile.
_VERDICTS = ("final", "leased", "stale")
_TOO_MANY = 429
_MOST_MODELS = 100
_MOST_ORGS = 50
_MOST_GUILDS = 200
_MOST_LIMITS = 50
#: Of a model with an organisation and a guild: each by itself bounded, they still multiply.
_MOST_PAYERS = 2_000
#: From a cached answer to the longest timeout a job may have by default.
_RUN_BUCKETS_S = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 60, 120, 300, 600, 1800)
_WAIT_BUCKETS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 600)
_FIRST_TOKEN_BUCKETS_S = (0.05, 0.1, 0.25, 0.5, 0.75, 1, 1.5, 2.5, 5, 10, 20, 60)


class JobMetrics(Observer):
    """Counts how this worker's jobs ended, and what they took."""

    def __init__(self, registry: CollectorRegistry) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # a series more for each, of no use
        self._models = BoundedLabels(_MOST_MODELS)
        self._guilds = BoundedLabels(_MOST_GUILDS)
        self._limits = BoundedLabels(_MOST_LIMITS)
        # An organisation brings only itself, however often.
        self._orgs = BoundedLabels(_MOST_ORGS)
        self._payers = BoundedLabels(_MOST_PAYERS)
        self._declare_ends(registry)
        self._declare_times(registry)
        self._declare_attempts(registry)
        self._declare_spend(registry)

    def _declare_ends(self, registry: CollectorRegistry) -> None:
        self._jobs = Counter(
            "llm_queue_jobs",
            "Jobs that ended here; error_kind is empty unless they failed.",
            ("outcome", "model", "error_kind"),
            registry=registry,
        )
        self._avoided = Counter(
            "llm_queue_duplicates_avoided",
            "Second runs or ends of a job that the ledger refused.",
            ("verdict",),
            registry=registry,
        )
        for verdict in _VERDICTS:
            # There from the start: a counter's first increase is not seen otherwise.
            self._avoided.labels(verdict)

    def _declare_times(self, registry: CollectorRegistry) -> None:
        self._run_s = Histogram(
            "llm_queue_job_run_seconds",
            "Time from the claim to the end, of all attempts together.",
            ("model",),
            buckets=_RUN_BUCKETS_S,
            registry=registry,
        )
        self._wait_s = Histogram(
            "llm_queue_job_queue_wait_seconds",
            "Time from the submit to the first claim.",
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        )
        self._first_token_s = Histogram(
            "llm_queue_first_token_seconds",
            "Time from the submit to the first chunk with text, of streamed jobs.",
            ("model",),
            buckets=_FIRST_TOKEN_BUCKETS_S,
            registry=registry,
        )
        self._limit_wait_s = Histogram(
            "llm_queue_limit_wait_seconds",
            "What ended jobs had waited for limits, by the latest of them; jobs that had not do not count.",
            ("limit",),
            buckets=_WAIT_BUCKETS_S,
            registry=registry,
        )

    def _declare_attempts(self, registry: CollectorRegistry) -> None:
        self._attempts = Counter(
            "llm_queue_attempts",
            "Provider calls that ended, by how: ok, failed, cancelled, lost.",
            ("model", "status"),
            registry=registry,
        )
        self._provider_429 = Counter(
            "llm_queue_provider_429",
            "Provider calls refused with a 429.",
            ("model",),
            registry=registry,
        )
        self._retries = Counter(
            "llm_queue_retries", "Provider calls after one that failed at the same model.", registry=registry
        )
        self._fallbacks = Counter(
            "llm_queue_fallbacks", "Provider calls after one that failed at another model.", registry=registry
        )

    def _declare_spend(self, registry: CollectorRegistry) -> None:
        self._tokens = Counter(
            "llm_queue_tokens",
            "Tokens by the providers' own count; cached ones are among the prompt's, reasoning among the "
            "completion's.",
            ("model", "org", "guild", "kind"),
            registry=registry,
        )
        self._cost_usd = Counter(
            "llm_queue_cost_usd",
            "What answers cost, in US dollars.",
            ("model", "org", "guild"),
            registry=registry,
        )
        self._reused = Counter(
            "llm_queue_cached_answers",
            "Jobs answered without a call of their own, by how: hit (kept), flight (an equal call).",
            ("how", "org"),
            registry=registry,
        )
        self._saved_usd = Counter(
            "llm_queue_cache_saved_usd",
            "What the calls that were not made would have cost, in US dollars.",
            ("org",),
            registry=registry,
        )

    def run_ended(self, execution: Execution) -> None:
        org = execution.record.job.owner.org if execution.record else OTHER
        self._count_attempts(execution, org)
        if execution.outcome is None:
            return
        model = self._ended(execution.record, execution.outcome, org)
        account = execution.outcome.account
        self._run_s.labels(model).observe(account.run_time_s)
        self._wait_s.observe(account.queue_wait_s)
        if account.limited_by is not None:
            limit = self._limits.value(account.limited_by.partition(":")[0], org)
            self._limit_wait_s.labels(limit).observe(account.limited_s)
        if execution.first_token_s is not None:
            self._first_token_s.labels(model).observe(execution.first_token_s)

    def concluded(self, job_id: str, record: JobRecord | None, outcome: Outcome) -> None:
        self._ended(record, outcome, record.job.owner.org if record else OTHER)

    def avoided(self, verdict: str) -> None:
        self._avoided.labels(verdict).inc()

    def _ended(self, record: JobRecord | None, outcome: Outcome, org: str) -> str:
        model = self._models.value(model_of(record, outcome), org)
        error = outcome.error.kind.value if isinstance(outcome, Failed) else ""
        self._jobs.labels(outcome.kind, model, error).inc()
        if record is not None:
            self._charge(outcome.account, model, record.job.owner)
        return model

    def _charge(self, account: Account, model: str, owner: Owner) -> None:
        payer = self._payer(model, owner)
        if account.cached:
            org = payer[0]
            self._reused.labels(account.cached, org).inc()
            self._saved_usd.labels(org).inc(account.saved_usd or 0)
            return
        if account.saved_usd:
            self._saved_usd.labels(payer[0]).inc(account.saved_usd)
        for kind, tokens in (
            ("prompt", account.prompt_tokens),
            ("completion", account.completion_tokens),
            ("cached", account.cached_tokens),
            ("reasoning", account.reasoning_tokens),
        ):
            if tokens:
                self._tokens.labels(model, *payer, kind).inc(tokens)
        if account.cost_usd:
            self._cost_usd.labels(model, *payer).inc(account.cost_usd)

    def _payer(self, model: str, owner: Owner) -> tuple[str, str]:
        payer = self._orgs.value(owner.org, owner.org), self._guilds.value(owner.guild, owner.org)
        return payer if self._payers.admits((model, *payer), owner.org) else (OTHER, OTHER)

    def _count_attempts(self, execution: Execution, org: str) -> None:
        before: AttemptRecord | None = None
        new = {attempt.number for attempt in execution.new_attempts}
        for attempt in execution.attempts.records:
            if attempt.number in new:
                model = self._models.value(attempt.model, org)
                self._attempts.labels(model, attempt.status).inc()
                if attempt.provider_status == _TOO_MANY:
                    self._provider_429.labels(model).inc()
                if before is not None and before.status == "failed":
                    (self._retries if before.model == attempt.model else self._fallbacks).inc()
            before = attempt
