from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any, Self

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, PydanticBaseSettingsSource, SettingsConfigDict

from .connection.redis_url import check_redis_url, is_cluster_url, is_memory_url
from .contract import MAX_NESTING
from .duration import Duration
from .names import DEFAULT_QUEUE, ENV_PREFIX, TAG_PATTERN
from .policy.policy_file import PolicyFile, PolicyFileError
from .policy.private_hosts import AllowedHosts
from .privacy.seal import KeyRing, Sealer
from .privacy.secret_file import WrongSetting, read_secret
from .reuse.options import CachePolicy


class SettingsError(ValueError):
    """A setting that cannot be used. The message names the variable and the remedy."""


def require_server(url: str) -> None:
    """Raises `SettingsError` for `memory://`, behind which there is no server."""
    if is_memory_url(url):
        raise SettingsError(
            f"{ENV_PREFIX}REDIS_URL: memory:// is for agents under test, whose calls no worker and no "
            "command sees; give the URL of a Redis server"
        )


def split_list(value: Any) -> Any:
    """A comma-separated setting as its entries; the rest is left to pydantic."""
    if not isinstance(value, str):
        return value
    return tuple(entry.strip() for entry in value.split(",") if entry.strip())


#: `a,b,c` in a variable, a list in a policy file.
TextList = Annotated[tuple[str, ...], NoDecode, BeforeValidator(split_list)]
#: May hold a password: kept out of every repr.
RedisUrl = Annotated[str, AfterValidator(check_redis_url), Field(repr=False)]


class QueueSettings(BaseSettings):
    """What both sides need to know, from the environment with the prefix `LLM_QUEUE_`.

    Raises `SettingsError` naming the variable when a value cannot be used.
    """

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="ignore", frozen=True)

    #: `redis://`, `rediss://` (TLS) or `sentinel://host:26379;host:26379/0?master=name`, there with
    #: `&tls=1&ssl_ca_certs=/path&sentinel_password=…` where needed. For agents under test also
    #: `memory://`: no Redis and no workers, answers are scripted.
    redis_url: RedisUrl = "redis://127.0.0.1:6379/0"
    #: The same from a file, read when `redis_url` is empty.
    redis_url_file: Path | None = None
    #: Where Redis answers in cluster mode: the hash tag before every key, on both sides the same, and
    #: `redis+cluster://host:6379;host:6379` in `redis_url` (`rediss+cluster://` for TLS).
    key_tag: str = Field(default="", pattern=TAG_PATTERN)
    #: The queue's name, on both sides the same; guilds with a queue of their own name it as a property.
    queue: str = Field(default=DEFAULT_QUEUE, pattern=r"^[A-Za-z0-9_.-]{1,64}$")

    #: `id:base64,…`; the first key seals, all open. Empty: records travel as plain JSON.
    sealing_keys: SecretStr = SecretStr("")
    #: The same from a file, read when `sealing_keys` is empty.
    sealing_keys_file: Path | None = None

    #: How long an ended job's record, result and stream stay readable.
    result_ttl: Duration = Field(default=timedelta(hours=24), ge=timedelta(seconds=1))
    stream_ttl: Duration = Field(default=timedelta(hours=1), ge=timedelta(seconds=1))
    idempotency_ttl: Duration = Field(default=timedelta(hours=24), ge=timedelta(seconds=1))

    #: A TOML file with any of the settings from here to `allowed_hosts`, and of the workers' own
    #: policy. Agents check what they can see; a worker checks everything again.
    policy: Path | None = None
    #: Largest request the queue takes, in bytes of JSON.
    max_body_bytes: int = Field(default=8_000_000, ge=1_000)
    #: Longest `timeout` a call may ask for.
    max_timeout: Duration = Field(default=timedelta(minutes=30), ge=timedelta(seconds=1))
    #: Deepest nesting of a request's JSON.
    max_nesting: int = Field(default=MAX_NESTING, ge=8, le=MAX_NESTING)
    #: Most choices a call may ask for.
    max_n: int = Field(default=128, ge=1)
    #: Most tokens an answer may have; also what is asked for where a call names no limit.
    max_output_tokens: int | None = Field(default=None, ge=1)
    #: Private hosts that may be named in URLs of messages and in `base_url`: names, `*.suffix`,
    #: addresses and networks.
    allowed_hosts: TextList = ()

    #: What calls may ask of the cache of answers: in the policy file the table `[cache]` with `max_ttl`,
    #: `max_bytes` (of one answer), `max_entries` (of one scope) and `scopes`; in the variable, JSON.
    cache: CachePolicy = Field(default_factory=CachePolicy)

    #: How long a call may go without Redis before it fails with `QueueUnavailable`.
    redis_timeout: Duration = Field(default=timedelta(seconds=4), gt=timedelta(0))

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as error:
            raise SettingsError(_explain(error)) from None
        except PolicyFileError as error:
            raise SettingsError(f"{ENV_PREFIX}POLICY: {error}") from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments before the environment before the policy file."""
        return init_settings, env_settings, PolicyFile(settings_cls)

    @field_validator("allowed_hosts")
    @classmethod
    def _hosts_parse(cls, entries: tuple[str, ...]) -> tuple[str, ...]:
        AllowedHosts(entries)
        return entries

    @model_validator(mode="before")
    @classmethod
    def _url_of_file(cls, values: dict[str, Any]) -> dict[str, Any]:
        if values.get("redis_url") or not (path := values.get("redis_url_file")):
            return values
        return {**values, "redis_url": read_secret("redis_url_file", Path(path))}

    @model_validator(mode="after")
    def _keys_parse(self) -> Self:
        try:
            self.key_ring()
        except WrongSetting:
            raise
        except ValueError as error:
            raise WrongSetting("sealing_keys", str(error)) from None
        return self

    @model_validator(mode="after")
    def _cluster_has_a_tag(self) -> Self:
        if is_cluster_url(self.redis_url) and not self.key_tag:
            raise WrongSetting(
                "key_tag", "a Redis in cluster mode needs one hash tag for all keys; give llmq"
            )
        return self

    def key_ring(self) -> KeyRing:
        return KeyRing.load(self.sealing_keys.get_secret_value(), self.sealing_keys_file)

    def private_hosts(self) -> AllowedHosts:
        """The private hosts that calls may name."""
        return AllowedHosts(self.allowed_hosts)

    def sealer(self) -> Sealer:
        """A sealer over the configured keys."""
        return Sealer(self.key_ring())


def _explain(error: ValidationError) -> str:
    lines = []
    for item in error.errors(include_url=False, include_input=False):
        cause = item.get("ctx", {}).get("error")
        name = str(item["loc"][0]) if item["loc"] else getattr(cause, "field", "settings")
        # A value is shown only where it cannot be a secret or hold a password.
        lines.append(f"{ENV_PREFIX}{name.upper()}: {item['msg'].removeprefix('Value error, ')}")
    return "; ".join(lines)
