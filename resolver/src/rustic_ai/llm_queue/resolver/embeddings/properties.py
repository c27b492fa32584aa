from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import Field

from rustic_ai.llm_queue.tasks.reuse.options import LONGEST_CACHE_TTL_S, CacheMode, CacheScope, ReuseOptions

from ..configuration_error import ConfigurationError
from ..property_errors import show
from ..queue_properties import ModelName, Number, QueueProperties, Text, Whole

#: The default model of upstream's resolvers.
DEFAULT_MODEL = "text-embedding-ada-002"
DEFAULT_VERTEX_MODEL = "vertex_ai/text-embedding-005"
_VERTEX = "vertex_ai"

#: The fields of upstream's `model_conf` (LangChain's OpenAI) that are properties by another name.
_OPENAI_NAMES = {
    "openai_api_base": "base_url",
    "openai_api_key": "api_key",
    "openai_api_version": "api_version",
    "openai_organization": "organization_id",
    "chunk_size": "max_batch_size",
}
#: The same of upstream's `conf` (Vertex AI).
_VERTEX_NAMES = {
    "auto_truncate": "truncate",
    "location": "vertex_location",
    "output_dimensionality": "dimensions",
    "project_id": "vertex_project",
    "task_type": "input_type",
}
#: How upstream batches, which the queue does by itself.
_WITHOUT_EFFECT = ("embedding_ctx_length", "encoding_format", "max_tokens_per_batch", "tokens_per_entry")


class EmbeddingProperties(QueueProperties):
    """The properties of a `QueueEmbeddingsResolver`.

    Takes those of upstream's resolvers for embeddings, `model_conf` and `conf` included, under their own
    names. Each field's description says what is expected of a value. A property that is null is not sent.
    """

    synonyms = {  # noqa: RUF012 - never changed
        **QueueProperties.synonyms,
        **_OPENAI_NAMES,
        **_VERTEX_NAMES,
        "batch_size": "max_batch_size",
        "dimension": "dimensions",
        "openai_api_type": "custom_llm_provider",
    }

    #: A model by its LiteLLM name, or a name from the workers' LiteLLM config file.
    model: ModelName = Field(
        DEFAULT_MODEL, description='a model by its LiteLLM name, such as "text-embedding-3-small"'
    )
    #: The length of a vector; by default the model's own.
    dimensions: Annotated[Whole, Field(ge=1, le=100_000)] | None = Field(
        None, description="a whole number above 0: the length of a vector, where the model lets one choose"
    )
    #: Sent with every call, for providers that tell queries and documents apart.
    input_type: Text = Field(
        None, description='what the texts are, as the provider calls it, such as "search_document"'
    )
    #: Cut a text that is too long for the model, instead of refusing it.
    truncate: bool = Field(
        False, description="true to cut a text that is too long for the model, or false to refuse it"
    )
    #: The most texts of one call; longer lists become several calls.
    max_batch_size: Annotated[Whole, Field(ge=1, le=2_048)] | None = Field(
        None, description="a whole number from 1 to 2048: the most texts of a call"
    )
    #: Seconds for which each text's vector is kept; 0 keeps none.
    cache_ttl_s: Annotated[Number, Field(ge=0, le=LONGEST_CACHE_TTL_S)] = Field(
        0.0, description="seconds from 0 to 2592000 (30 days) for which a text's vector is kept; 0 keeps none"
    )
    #: Which calls may share a vector.
    cache_scope: CacheScope = Field(
        "guild", description='"agent", "guild" or "org": no vector is ever shared between organisations'
    )
    #: `no-cache` asks again, `no-store` keeps nothing, `off` does neither.
    cache: CacheMode = Field(
        "default",
        description='"default", "no-cache" (ask anew), "no-store" (keep nothing) or "off" (neither)',
    )
    encoding_format: Literal["float", "base64"] | None = Field(
        None, exclude=True, description='"float" or "base64"; without effect'
    )

    @property
    def reuse(self) -> ReuseOptions | None:
        """What calls ask of vectors that are there already; None for nothing."""
        options = ReuseOptions(cache_ttl_s=self.cache_ttl_s, cache_scope=self.cache_scope, cache=self.cache)
        return options if options.asked else None

    @classmethod
    def load(cls, given: Mapping[str, Any]) -> Self:
        """Read a dependency spec's properties, ours or upstream's; a flat one wins over its like in a `conf`.

        Raises `ConfigurationError` naming every field that is wrong. Nothing passed is changed.
        """
        flat = dict(given)
        openai, vertex = _conf(flat, "model_conf"), _conf(flat, "conf")
        values = {**_renamed(openai, _OPENAI_NAMES), **_renamed(vertex, _VERTEX_NAMES)}
        values |= _renamed(flat, {"model_name": "model"})
        if "openai_proxy" in values:
            raise ConfigurationError(
                "openai_proxy: calls are made by the workers; set HTTPS_PROXY in their environment"
            )
        api_type, deployment = values.pop("openai_api_type", None), values.pop("deployment", None)
        for name in _WITHOUT_EFFECT:
            if name != "encoding_format":
                values.pop(name, None)
        if values.get("model") is None:
            values["model"] = DEFAULT_VERTEX_MODEL if _is_vertex(vertex) else DEFAULT_MODEL
        elif _is_vertex(vertex) and "/" not in str(values["model"]):
            values["model"] = f"{_VERTEX}/{values['model']}"
        if str(api_type).startswith("azure"):
            values["model"] = f"azure/{deployment or values['model']}"
        return cls.of_values(values)


def _conf(flat: dict[str, Any], name: str) -> Mapping[str, Any]:
    conf = flat.pop(name, None)
    if not isinstance(conf, Mapping | None):
        raise ConfigurationError(f"{name}: got {show(conf)}; give a mapping, as upstream's resolver takes it")
    return conf or {}


def _renamed(values: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    return {names.get(name, name): value for name, value in values.items()}


def _is_vertex(conf: Mapping[str, Any]) -> bool:
    return any(name in conf for name in (*_VERTEX_NAMES, "max_tokens_per_batch", "tokens_per_entry"))
