from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Self

from pydantic import Field, StringConstraints
from rustic_ai.core.guild.agent_ext.depends.llm.models import DiscriminatedLLMMessage

from rustic_ai.llm_queue.tasks.call import ServiceTier
from rustic_ai.llm_queue.tasks.contract import MOST_SECONDS
from rustic_ai.llm_queue.tasks.reuse.options import LONGEST_CACHE_TTL_S, CacheMode, CacheScope

from .configuration_error import ConfigurationError
from .property_errors import show
from .queue_properties import DEFAULT_MAX_RETRIES as DEFAULT_MAX_RETRIES
from .queue_properties import ModelName, Number, QueueProperties, Whole
from .toolset import AnyToolset


class Properties(QueueProperties):
    """The properties of a `QueueLLMResolver`: LiteLLMResolver's table and its `conf`, and a few more.

    Each field's description says what is expected of a value. A property that is null is not sent.
    """

    synonyms = {  # noqa: RUF012 - never changed
        **QueueProperties.synonyms,
        "max_completion_tokens": "max_tokens",
        "tools": "toolset",
    }

    #: A model by its LiteLLM name, or a name from the workers' LiteLLM config file.
    model: ModelName = Field(description='a model by its LiteLLM name, such as "gpt-4"')
    #: Sent with every call.
    temperature: Annotated[Number, Field(ge=0, le=2)] | None = Field(
        0.7, description="a number from 0.0 to 2.0, or null to leave it to the model"
    )
    #: The longest answer in tokens; by default the model's own limit.
    max_tokens: Annotated[Whole, Field(ge=1)] | None = Field(
        None, description="a whole number above 0, or null to leave it to the model"
    )
    #: Sent with every call.
    top_p: Annotated[Number, Field(ge=0, le=1)] | None = Field(
        1.0, description="a number from 0.0 to 1.0, or null to leave it to the model"
    )
    #: Sent with every call.
    frequency_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = Field(
        0.0, description="a number from -2.0 to 2.0, or null to leave it to the model"
    )
    #: Sent with every call.
    presence_penalty: Annotated[Number, Field(ge=-2, le=2)] | None = Field(
        0.0, description="a number from -2.0 to 2.0, or null to leave it to the model"
    )

    # Upstream's `conf`.
    #: Messages put before every prompt.
    messages: tuple[DiscriminatedLLMMessage, ...] | None = Field(
        None, repr=False, description="a list of chat messages to put before every prompt"
    )
    #: A toolset whose tools go with every prompt.
    toolset: AnyToolset | None = Field(
        None,
        description='{"type": "toolset_class", "class_path": …} or {"type": "toolspec_list", "tools": […]}',
    )
    #: Check the answer against the request's JSON schema.
    enable_json_schema_validation: bool | None = Field(None, description="true or false")

    # These steered upstream's former agent; its resolver accepts them without effect, and so do we.
    stream: Any = Field(None, exclude=True)
    message_memory: Any = Field(None, exclude=True)
    filter_attachments: Any = Field(None, exclude=True)
    extract_tool_calls: Any = Field(None, exclude=True)
    skip_chat_response_on_tool_call: Any = Field(None, exclude=True)
    retries_on_tool_parse_error: Any = Field(None, exclude=True)

    # The queue's own.
    #: Seconds for which an ended stream can be replayed; by default `LLM_QUEUE_STREAM_TTL`.
    stream_ttl_s: Annotated[Number, Field(gt=0, le=MOST_SECONDS)] | None = Field(
        None, description="a number of seconds above 0"
    )
    #: Seconds after which a stream without a first token is tried again, or with the next model.
    first_token_timeout: Annotated[Number, Field(gt=0, le=MOST_SECONDS)] | None = Field(
        None,
        description="a number of seconds above 0 after which a stream that has said nothing is tried again "
        "or with the next model; null for the timeout",
    )
    #: At which of the provider's tiers calls go: `flex` is cheaper and slower, `priority` dearer and faster.
    service_tier: ServiceTier | None = Field(
        None,
        description='"auto", "default", "flex" or "priority", or null to leave it to the provider; a model '
        "without the tier is refused",
    )
    #: Wait for the answer of an equal call that is under way, instead of making a second one.
    single_flight: bool = Field(
        False, description="true to wait for the answer of an equal call that is under way, or false"
    )
    #: Seconds for which an answer is kept for equal calls; 0 keeps none.
    cache_ttl_s: Annotated[Number, Field(ge=0, le=LONGEST_CACHE_TTL_S)] = Field(
        0.0,
        description="seconds from 0 to 2592000 (30 days) for which an answer is kept; 0 keeps none",
    )
    #: Which calls may share an answer.
    cache_scope: CacheScope = Field(
        "guild",
        description='"agent", "guild" or "org": no answer is ever shared between organisations',
    )
    #: `no-cache` asks again, `no-store` keeps nothing, `off` does neither.
    cache: CacheMode = Field(
        "default",
        description='"default", "no-cache" (ask anew), "no-store" (keep nothing) or "off" (neither)',
    )
    #: Calls with different texts here are never equal.
    cache_key_extra: Annotated[str, StringConstraints(max_length=512)] = Field(
        "", description="a text of at most 512 characters; calls with different ones are never equal"
    )

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        """Read a dependency spec's properties, `conf` included; a flat one wins over its like in `conf`.

        Raises `ConfigurationError` naming every field that is wrong. Nothing passed is changed.
        """
        flat = dict(given)
        conf = flat.pop("conf", None)
        if not isinstance(conf, Mapping | None):
            raise ConfigurationError(f"conf: got {show(conf)}; give a mapping, as LiteLLMResolver's")
        return cls.of_values({**(conf or {}), **flat})
