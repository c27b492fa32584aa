from __future__ import annotations

import importlib
import importlib.util
import json
from collections.abc import Mapping
from typing import Any

from rustic_ai.llm_queue.tasks.call import CompletionCall

from ..configuration_error import ConfigurationError
from ..response import QueueChatCompletionResponse


def require_validator() -> None:
    """Raises `ConfigurationError` when answers cannot be validated here."""
    if importlib.util.find_spec("jsonschema") is None:
        raise ConfigurationError(
            "enable_json_schema_validation: needs the package jsonschema beside the agent; "
            "install it, or leave the property out"
        )


def schema_of(call: CompletionCall) -> dict[str, Any] | None:
    """The JSON schema that the call asks its answer to follow."""
    wrapped = call.params.get("response_format", {}).get("json_schema")
    schema: dict[str, Any] | None = wrapped.get("schema") if isinstance(wrapped, Mapping) else None
    return schema


def schema_violation(response: QueueChatCompletionResponse, schema: Mapping[str, Any]) -> str | None:
    """How the answer departs from the schema, without a word of it; None when it does not.

    Checked here, not on a worker: a schema's patterns can take for ever, and would take everybody's.
    """
    jsonschema = importlib.import_module("jsonschema")
    for choice in response.choices:
        if choice.message.tool_calls:
            continue
        try:
            jsonschema.validate(json.loads(choice.message.content or ""), schema)
        except json.JSONDecodeError:
            return f"choice {choice.index} is not JSON"
        except jsonschema.ValidationError as error:
            return f"choice {choice.index} breaks {error.validator!r} at {error.json_path}"
        except jsonschema.SchemaError as error:
            return f"the response_format is not a JSON schema: {error.validator!r} at {error.json_path}"
    return None
