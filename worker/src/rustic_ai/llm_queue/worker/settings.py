from __future__ import annotations

import hashlib
import json
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, ValidationInfo, field_validator
from pydantic_settings import NoDecode

from rustic_ai.llm_queue.tasks.connection.redis_url import check_redis_url, is_cluster_url
from rustic_ai.llm_queue.tasks.duration import Duration
from rustic_ai.llm_queue.tasks.names import ENV_PREFIX
from rustic_ai.llm_queue.tasks.policy.allowed_endpoint import AllowedEndpoint
from rustic_ai.llm_queue.tasks.policy.budget_rule import BudgetRule, parse_budgets
from rustic_ai.llm_queue.tasks.policy.fair_share import FairShare, parse_fair_share
from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitRule, parse_limits
from rustic_ai.llm_queue.tasks.policy.policy_file import POLICY_FIELDS
from rustic_ai.llm_queue.tasks.settings import QueueSettings, TextList, split_list

#: The limit that `max_running_per_guild` is short for.
GUILD_LIMIT = "max_running_per_guild"
MOST_CONCURRENT = 100_000
_NONE = timedelta(0)
_INSTANT = timedelta(milliseconds=1)


def _endpoints(value: Any) -> Any:
    entries = split_list(value)
    if not isinstance(entries, list | tuple):
        return value
    return tuple(_endpoint(entry) for entry in entries)


def _endpoint(entry: Any) -> Any:
    if isinstance(entry, dict) and set(entry) == {"provider", "base_url"}:
        entry = f"{entry['provider']}={entry['base_url']}"
    return AllowedEndpoint.parse(entry) if isinstance(entry, str) else entry


class WorkerSettings(QueueSettings):
    """What only a worker needs to know, from the environment with the prefix `LLM_QUEUE_`.

    Durations take `30`, `30s`, `500ms`, `5m`, `1h`; a bare number is in seconds. Raises
    `SettingsError` naming the variable when a value cannot be used.
    """

    #: Calls in flight in one process.
    concurrency: int = Field(default=1_000, ge=1, le=MOST_CONCURRENT)

    #: A file of `NAME=value` lines, such as providers' keys, for what LiteLLM looks up in the environment.
    #: `OPENAI_API_KEY_FILE` and its like name a file for one key.
    provider_keys_file: Path | None = None
    #: LiteLLM's own config file, whose `model_list` names become models of ours.
    litellm_config: Path | None = None
    #: `provider=base URL,…`: where a job may send this worker's own key.
    allowed_endpoints: Annotated[tuple[AllowedEndpoint, ...], NoDecode, BeforeValidator(_endpoints)] = ()
    #: Whether plain calls of OpenAI, DeepSeek, Anthropic, Gemini and Azure skip the parts of LiteLLM that
    #: they do not need: 40 to 50 % of the provider's CPU, and more of a stream's. `off` sends all calls
    #: LiteLLM's whole way.
    fast_path: bool = True
    #: Patterns of the models a job may name, as `openai/*`: held against the name as the job gives it
    #: and against `provider/model`.
    allowed_models: TextList = ("*",)
    #: Embedding models whose vectors are the same, as `openai/text-embedding-3-small=azure/ours,…`: only they
    #: may stand in for each other.
    equivalent_embeddings: TextList = ()
    #: Calls of one guild that run at once, over all workers; its further jobs wait. Short for a limit
    #: `per = ["org", "guild"]` with these `max_parallel_requests`.
    max_running_per_guild: int | None = Field(default=None, ge=1)
    #: What calls share, `[[limits]]` in the policy file (docs/limits.md): requests and tokens a minute,
    #: calls at once. In the environment the same as a JSON list.
    limits: Annotated[tuple[LimitRule, ...], BeforeValidator(parse_limits)] = ()
    #: The money, or tokens, that calls may take in a period: `[[budgets]]` in the policy file
    #: (docs/budgets.md). In the environment the same as a JSON list.
    budgets: Annotated[tuple[BudgetRule, ...], BeforeValidator(parse_budgets)] = ()
    #: Where alerts of budgets are posted to, as JSON with a signature; empty for nowhere.
    alert_url: str = Field(default="", pattern=r"^(https?://\S+)?$", repr=False)
    #: `[fair_share]` of the policy file: whose job is next where more wait than run. In the environment
    #: the same as a JSON object.
    fair_share: Annotated[FairShare, BeforeValidator(parse_fair_share)] = FairShare()
    #: Longest that a provider's 429 closes its model to all workers.
    max_cooldown: Duration = Field(default=timedelta(minutes=15), ge=timedelta(seconds=1))

    #: Pause before the first retry, and the longest pause, where the provider names none.
    retry_base: Duration = Field(default=timedelta(milliseconds=500), ge=_INSTANT)
    retry_cap: Duration = Field(default=timedelta(seconds=30), ge=_INSTANT)

    #: How long a job is a worker's without a renewal, and how often it renews.
    lease: Duration = Field(default=timedelta(seconds=15), ge=timedelta(seconds=1))
    beat: Duration = Field(default=timedelta(seconds=5), ge=timedelta(milliseconds=100))
    #: How often a worker looks for jobs whose worker is gone.
    reap_every: Duration = Field(default=timedelta(seconds=2), ge=timedelta(milliseconds=100))
    #: How long writes to Redis are tried again before a job is given up.
    outage: Duration = Field(default=timedelta(seconds=60), ge=_NONE)
    #: Reruns of a job after its worker was lost.
    most_losses: int = Field(default=2, ge=0, le=100)

    #: How long a stopping worker waits for its calls, and after which it exits whatever runs.
    drain: Duration = Field(default=timedelta(seconds=30), ge=_NONE)
    hard_stop: Duration = Field(default=timedelta(seconds=60), ge=_NONE)

    #: Longest silence of a provider in the middle of a stream.
    stream_idle: Duration = Field(default=timedelta(seconds=120), ge=_INSTANT)
    #: Most that one stream may carry, in bytes of its chunks as JSON.
    stream_max_bytes: int = Field(default=16_000_000, ge=1_000)
    #: Longest whole answer, error and line of a stream that a worker takes from a provider, in bytes after
    #: decompression.
    max_answer_bytes: int = Field(default=16_000_000, ge=1_000)
    #: A frame goes out when this much time has passed or this many bytes have gathered.
    stream_flush: Duration = Field(default=timedelta(milliseconds=30), ge=_NONE)
    stream_flush_bytes: int = Field(default=1_024, ge=1)

    #: How much is logged, and whether for people or as JSON.
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["human", "json"] = "human"

    #: How long a day's costs stay in the books.
    costs_ttl: Duration = Field(default=timedelta(days=400), ge=timedelta(days=1))

    #: Where Prometheus finds this worker's metrics; port 0 shows none. There is no login: keep the
    #: address private. Of a name with many addresses, as a service's, it takes this machine's own.
    metrics_host: str = Field(default="127.0.0.1", min_length=1)
    metrics_port: int = Field(default=0, ge=0, le=65535)

    #: A second Redis for the cache of answers, which may evict what it likes; by default the queue's own.
    cache_url: Annotated[str, AfterValidator(check_redis_url)] | None = Field(default=None, repr=False)

    #: A file that is touched every 5 s while the worker takes jobs, for a container's health check.
    health_file: Path | None = None

    def limit_rules(self) -> tuple[LimitRule, ...]:
        """All limits: those of the policy file, and those that other settings stand for."""
        if self.max_running_per_guild is None:
            return self.limits
        guild = LimitRule(
            name=GUILD_LIMIT, per=("org", "guild"), max_parallel_requests=self.max_running_per_guild
        )
        return (guild, *self.limits)

    def known_models(self) -> set[str]:
        """The models that the policy names, some of them by patterns."""
        instead = {model for budget in self.budgets for model in budget.budget_fallbacks.values()}
        return {*self.allowed_models, *instead}

    def policy_digest(self) -> str:
        """Tells two policies apart: workers with different ones would hold calls to different rules."""
        policy = self.model_dump(mode="json", include=set(POLICY_FIELDS))
        return hashlib.sha256(json.dumps(policy, sort_keys=True, default=str).encode()).hexdigest()[:12]

    @property
    def oldest_request(self) -> timedelta:
        """Past this age a sealed request is one that somebody kept: no record lives so long.

        An hour on top, because the submitter's clock is not ours.
        """
        return self.max_timeout + self.result_ttl + timedelta(hours=1)

    @field_validator("cache_url")
    @classmethod
    def _cache_has_a_tag(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is not None and is_cluster_url(url) and not info.data.get("key_tag"):
            raise ValueError(f"a Redis in cluster mode needs one hash tag for all keys: {ENV_PREFIX}KEY_TAG")
        return url

    @field_validator("equivalent_embeddings")
    @classmethod
    def _names_two(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        for entry in entries:
            if len([name for name in entry.split("=") if name.strip()]) < 2:
                raise ValueError(f"{entry!r} is not of the form model=model")
        return entries

    # Field by field, so that the error names the variable.
    @field_validator("beat")
    @classmethod
    def _beats_thrice(cls, beat: timedelta, info: ValidationInfo) -> timedelta:
        if beat * 3 > (lease := info.data.get("lease", beat * 3)):
            raise ValueError(f"{_shown(beat)} is more than a third of the lease of {_shown(lease)}")
        return beat

    @field_validator("retry_cap")
    @classmethod
    def _cap_above_base(cls, cap: timedelta, info: ValidationInfo) -> timedelta:
        if cap < (base := info.data.get("retry_base", cap)):
            raise ValueError(f"{_shown(cap)} is shorter than the retry_base of {_shown(base)}")
        return cap

    @field_validator("hard_stop")
    @classmethod
    def _stops_after_drain(cls, hard_stop: timedelta, info: ValidationInfo) -> timedelta:
        if hard_stop < (drain := info.data.get("drain", hard_stop)):
            raise ValueError(f"{_shown(hard_stop)} is over before the drain of {_shown(drain)}")
        return hard_stop


def _shown(span: timedelta) -> str:
    return f"{span.total_seconds():g} s"
