from __future__ import annotations

import re
from collections.abc import Mapping
from enum import Enum
from typing import Annotated, Any, ClassVar, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SecretStr,
    StringConstraints,
    ValidationError,
)

from rustic_ai.llm_queue.tasks.call import WhenLimited
from rustic_ai.llm_queue.tasks.connection.redis_url import check_redis_url
from rustic_ai.llm_queue.tasks.contract import MOST_SECONDS, check_json_value
from rustic_ai.llm_queue.tasks.job import NORMAL, OnWorkerLoss, Priority, priority_of
from rustic_ai.llm_queue.tasks.names import TAG_PATTERN
from rustic_ai.llm_queue.tasks.policy.headers import FORBIDDEN_HEADERS
from rustic_ai.llm_queue.tasks.settings import QueueSettings, SettingsError
from rustic_ai.llm_queue.tasks.usage import MOST_USD

from .configuration_error import ConfigurationError, WrongSetting
from .property_errors import explain

DEFAULT_TIMEOUT_S = 600.0
DEFAULT_MAX_RETRIES = 2

_CREDENTIAL_HEADER = re.compile(r"authorization|cookie|token|secret|password|api[-_]?key|credential", re.I)
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def _no_bool(value: object) -> object:
    if isinstance(value, bool):
        raise ValueError("a truth value where a number belongs")
    return value


def _name_of(value: object) -> object:
    # Rustic's `Models` are enums, one of them without `str()` giving the value.
    value = value.value if isinstance(value, Enum) else value
    return value.strip() if isinstance(value, str) else value


def _blank_is_none(value: object) -> object:
    return None if isinstance(value, str) and not value.strip() else value


def _check_base_url(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError("not an http(s) URL")
    if parts.username or parts.password:
        raise ValueError("a URL with a user or a password in it; give the key as api_key")
    return url


def _check_unicode(text: str | None) -> str | None:
    check_json_value(text, field="text")
    return text


def _check_secret(secret: SecretStr | None) -> SecretStr | None:
    if secret is not None:
        _check_unicode(secret.get_secret_value())
    return secret


def _check_headers(headers: dict[str, str]) -> dict[str, str]:
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a header name")
        if name.lower() in FORBIDDEN_HEADERS:
            raise ValueError(f"{name!r} decides where a request goes or ends; leave it out")
        if not value.isprintable():
            raise ValueError(f"the value of {name!r} holds a line break or another control character")
    return headers


ModelName = Annotated[
    str,
    BeforeValidator(_name_of),
    StringConstraints(min_length=1, max_length=512),
    AfterValidator(_check_unicode),
]
Number = Annotated[float, BeforeValidator(_no_bool), Field(allow_inf_nan=False)]
Whole = Annotated[int, BeforeValidator(_no_bool)]
Text = Annotated[str | None, BeforeValidator(_blank_is_none), AfterValidator(_check_unicode)]


class QueueProperties(BaseModel):
    """The common properties of the queue's resolvers.

    Each field's description says what is expected of a value. A property that is null is not sent.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    #: What other tools call the same thing.
    synonyms: ClassVar[Mapping[str, str]] = {
        "api_base": "base_url",
        "organization": "organization_id",
        "num_retries": "max_retries",
        "retries": "max_retries",
        "fallbacks": "fallback_models",
        "headers": "extra_headers",
        "default_headers": "extra_headers",
        "request_timeout": "timeout",
        "model_name": "model",
        "model_id": "model",
    }

    #: The provider's key. It travels only sealed; by default the workers' own is used.
    api_key: Annotated[SecretStr | None, AfterValidator(_check_secret)] = Field(
        None, description="the provider's API key as text"
    )
    #: Organization at the provider.
    organization_id: Text = Field(None, description="an organization id as text")
    #: Another address of the provider. It needs an `api_key` of its own, or the operator's permission.
    base_url: Annotated[Text, AfterValidator(lambda url: url and _check_base_url(url))] = Field(
        None, description="an http(s) URL without credentials"
    )
    #: Seconds for everything the caller waits for: queue, attempts, pauses. Past it the job is cancelled.
    timeout: Annotated[Number, Field(gt=0)] | None = Field(
        DEFAULT_TIMEOUT_S,
        description="a number of seconds above 0; it bounds everything the caller waits for",
    )
    #: Tries after the first, for each model.
    max_retries: Annotated[Whole, Field(ge=0, le=100)] | None = Field(
        DEFAULT_MAX_RETRIES, description="a whole number from 0 to 100: tries after the first, for each model"
    )
    #: Models to ask in order when the one before has failed for good.
    fallback_models: tuple[ModelName, ...] = Field(
        (), description='a list of models, such as ["gpt-4o-mini"]'
    )
    #: Sent with calls to the primary model's provider, and to no other.
    extra_headers: Annotated[dict[str, str], AfterValidator(_check_headers)] = Field(
        default_factory=dict, repr=False, description="a mapping of header names to text, without line breaks"
    )
    #: LiteLLM's provider, where the model's name does not say it.
    custom_llm_provider: Text = Field(None, description="a LiteLLM provider's name")
    #: For Azure.
    api_version: Text = Field(None, description="an API version as text")
    #: For Vertex AI.
    vertex_location: Text = Field(None, description="a Vertex AI location as text")
    #: For Vertex AI.
    vertex_project: Text = Field(None, description="a Google Cloud project id as text")
    #: A queue of its own, for which workers must run; by default `LLM_QUEUE_QUEUE`.
    queue: Annotated[str, Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")] | None = Field(
        None, description="a queue's name of 1-64 letters, digits, '_', '.' and '-'"
    )
    #: Jobs of a lower number go first; `normal` leaves room for more urgent ones.
    priority: Annotated[Priority, BeforeValidator(priority_of)] = Field(
        NORMAL, description='"interactive", "normal", "low" or "batch", or their numbers 0, 3, 6 and 9'
    )
    #: What happens when a limit of the operators' has no room.
    when_limited: WhenLimited = Field(
        "wait",
        description='"wait", "fall_back" (ask the next model) or "fail", for when a limit has no room',
    )
    #: The longest wait for limits, in seconds; by default the timeout.
    max_wait: Annotated[Number, Field(ge=0, le=MOST_SECONDS)] | None = Field(
        None, description="a number of seconds from 0: the longest wait for limits; null for the timeout"
    )
    #: The most that a call may cost, in dollars; one that may cost more is refused before it is made.
    max_cost_usd: Annotated[Number, Field(gt=0, le=MOST_USD)] | None = Field(
        None, description="dollars above 0, up to 9000: the most that one call may cost; null for no limit"
    )
    #: The run whose calls share a budget, where the operators have one for each run.
    budget_run: Annotated[str, Field(min_length=1, max_length=128)] | None = Field(
        None, description="the name of a run, up to 128 characters"
    )
    #: What happens when the job's worker dies: `retry` runs it again, `fail` raises `WorkerLost`.
    on_worker_loss: OnWorkerLoss = Field("retry", description='"retry" or "fail"')
    #: By default `LLM_QUEUE_REDIS_URL`.
    redis_url: Annotated[str, AfterValidator(check_redis_url)] | None = Field(
        None, repr=False, description="a URL such as redis://host:6379/0"
    )
    #: By default `LLM_QUEUE_KEY_TAG`.
    key_tag: Annotated[str, Field(pattern=TAG_PATTERN)] | None = Field(
        None, description="a tag of up to 32 letters, digits, '_', '.' and '-', for a Redis in cluster mode"
    )

    @classmethod
    def of_values(cls, values: Mapping[str, Any]) -> Self:
        """Read the properties by name. Raises `ConfigurationError` naming every field that is wrong."""
        # An optional collection that is null is an empty one.
        given = {
            name: value
            for name, value in values.items()
            if value is not None or name not in ("fallback_models", "extra_headers")
        }
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            raise ConfigurationError(explain(error, cls, cls.synonyms)) from None

    def settings(self) -> QueueSettings:
        """The process's settings as these properties have them.

        Raises `ConfigurationError` where the two do not go together, `SettingsError` where a
        variable is wrong.
        """
        overrides = {"redis_url": self.redis_url, "key_tag": self.key_tag, "queue": self.queue}
        try:
            settings = QueueSettings(
                **{name: value for name, value in overrides.items() if value is not None}
            )
        except SettingsError as error:
            raise WrongSetting(f"the environment's settings: {error}") from None
        longest_s = settings.max_timeout.total_seconds()
        if "timeout" in self.model_fields_set and self.timeout is not None and self.timeout > longest_s:
            raise ConfigurationError(
                f"timeout: {self.timeout:g} s is above the longest allowed, {longest_s:g} s; "
                "lower it, or raise LLM_QUEUE_MAX_TIMEOUT"
            )
        self.check_max_wait(self.max_wait, self.timeout_s(settings))
        if not settings.sealer().seals:
            self._refuse_secrets()
        return settings

    @staticmethod
    def check_max_wait(max_wait_s: float | None, timeout_s: float) -> None:
        """Raises `ConfigurationError` for a wait that is longer than the call."""
        if max_wait_s is not None and max_wait_s > timeout_s:
            raise ConfigurationError(
                f"max_wait is {max_wait_s:g} s, but the call ends after timeout = {timeout_s:g} s"
            )

    def timeout_s(self, settings: QueueSettings) -> float:
        """How long a call may take when the request sets no timeout."""
        longest_s = settings.max_timeout.total_seconds()
        return longest_s if self.timeout is None else min(self.timeout, longest_s)

    def public(self) -> dict[str, Any]:
        """The properties without their secrets."""
        config = self.model_dump(mode="json", exclude_none=True, exclude={"api_key", "redis_url"})
        config["extra_headers"] = dict.fromkeys(self.extra_headers, "**********")
        return config

    def _refuse_secrets(self) -> None:
        remedy = (
            "cannot travel unsealed: make a key with `llm-queue make-key` and set LLM_QUEUE_SEALING_KEYS "
            "here and on the workers, or leave it out and give the workers the provider's key "
            "in their environment"
        )
        if self.api_key and self.api_key.get_secret_value():
            raise ConfigurationError(f"api_key: a literal key {remedy}")
        for name in self.extra_headers:
            if _CREDENTIAL_HEADER.search(name):
                raise ConfigurationError(f"extra_headers: a credential in {name!r} {remedy}")
