from __future__ import annotations

from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, ClassVar, Literal, get_args

from pydantic import Field, SecretStr, field_serializer

from .contract import Contract, Seconds
from .reuse.options import ReuseOptions
from .usage import MOST_USD

_CHARACTERS_PER_TOKEN = 4


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
#: At which of a provider's tiers a call goes, in OpenAI's words; one of a completion's `params`.
ServiceTier = Literal["auto", "default", "flex", "priority"]
SERVICE_TIERS: tuple[ServiceTier, ...] = get_args(ServiceTier)


class CallKind(StrEnum):
    """What is asked of a model."""

    CHAT = "chat"
    EMBEDDING = "embedding"


class ModelCall(Contract):
    """The private half of a job: everything the worker needs to make the call. Travels sealed."""

    kind: ClassVar[CallKind]

    model: str = Field(min_length=1, max_length=512)
    fallback_models: tuple[str, ...] = ()
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
    max_wait_s: Seconds | None = None
    #: Longest that a stream may take to say something, in seconds; None for the deadline.
    first_token_timeout_s: Seconds | None = Field(default=None, gt=0)
    #: The most that one provider call of it may cost, in dollars.
    max_cost_usd: float | None = Field(default=None, gt=0, le=MOST_USD, allow_inf_nan=False)
    #: The run whose calls share a budget of the period `run`.
    budget_run: str | None = Field(default=None, min_length=1, max_length=128)
    #: None for the many calls that ask for nothing of the kind.
    reuse: ReuseOptions | None = None

    @property
    def estimated_tokens(self) -> int:
        """A rough count of the input's tokens: 4 characters each, pictures and files not counted."""
        return self._input_length() // _CHARACTERS_PER_TOKEN

    @property
    def text_count(self) -> int:
        """The number of texts to embed; 0 for a completion."""
        return 0

    def _input_length(self) -> int:
        raise NotImplementedError


class CompletionCall(ModelCall):
    """A chat completion."""

    kind = CallKind.CHAT

    #: OpenAI chat completion parameters, `messages` among them, without `model` and `stream`.
    params: dict[str, Any] = Field(repr=False)

    def _input_length(self) -> int:
        return sum(_text_length(message.get("content")) for message in self.params["messages"])


class EmbeddingCall(ModelCall):
    """The embeddings of some texts, one vector for each."""

    kind = CallKind.EMBEDDING

    texts: tuple[str, ...] = Field(min_length=1, repr=False)
    #: OpenAI embedding parameters and LiteLLM's `input_type`, without `model` and `input`.
    params: dict[str, Any] = Field(default_factory=dict, repr=False)
    stream: Literal[False] = False

    @property
    def text_count(self) -> int:
        return len(self.texts)

    def _input_length(self) -> int:
        return sum(map(len, self.texts))


#: One class for each kind of call: the closed set.
Call = CompletionCall | EmbeddingCall
CALLS: Mapping[CallKind, type[Call]] = {one.kind: one for one in (CompletionCall, EmbeddingCall)}


def _text_length(content: object) -> int:
    if isinstance(content, str):
        return len(content)
    parts: Iterable[Any] = content if isinstance(content, list) else ()
    return sum(len(part.get("text", "")) for part in parts)
