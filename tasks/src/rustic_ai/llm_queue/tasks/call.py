from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, SecretStr, field_serializer

from .contract import Contract
from .reuse import ReuseOptions


class Endpoint(Contract):
    """What belongs to the primary model's provider alone, and never travels to another one."""

    api_key: SecretStr | None = None
    base_url: str | None = None
    organization_id: str | None = None
    extra_headers: dict[str, str] = Field(default_factory=dict, repr=False)
    api_version: str | None = None
    custom_llm_provider: str | None = None
    vertex_location: str | None = None
    vertex_project: str | None = None

    @field_serializer("api_key", when_used="json-unless-none")
    def _reveal(self, value: SecretStr) -> str:
        # Reached only on the way into a sealed record: submit refuses a key without sealing.
        return value.get_secret_value()


_NO_ENDPOINT = Endpoint()


WhenLimited = Literal["wait", "fall_back", "fail"]


class CompletionCall(Contract):
    """The private half of a job: everything the worker needs to make the call. Travels sealed."""

    model: str = Field(min_length=1, max_length=512)
    fallback_models: tuple[str, ...] = ()
    #: OpenAI chat completion parameters, `messages` among them, without `model` and `stream`.
    params: dict[str, Any] = Field(repr=False)
    #: Most calls name none: all of them share one that is empty.
    endpoint: Endpoint = Field(default_factory=lambda: _NO_ENDPOINT)
    #: The model whose provider `endpoint` belongs to: the resolver's, where a call names another.
    endpoint_model: str | None = None
    #: Tries after the first, for each model.
    max_retries: int = Field(default=2, ge=0, le=100)
    stream: bool = False
    #: When a limit has no room: wait for it, ask the next model instead, or fail at once.
    when_limited: WhenLimited = "wait"
    #: Longest wait for limits, from the first one on, in seconds; None for the deadline.
    max_wait_s: float | None = Field(default=None, ge=0)
    #: None for the many calls that ask for nothing of the kind.
    reuse: ReuseOptions | None = None
