from __future__ import annotations

import importlib
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionTool
from rustic_ai.core.guild.agent_ext.depends.llm.tools_manager import Toolset, ToolSpec

from .configuration_error import ConfigurationError


class ToolsetClass(BaseModel):
    """The tools of a Rustic `Toolset`, by the class's dotted name."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["toolset_class"] = "toolset_class"
    class_path: str


class ToolspecList(BaseModel):
    """Tools spelt out, each with the dotted name of its Pydantic parameter class."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    type: Literal["toolspec_list"] = "toolspec_list"
    tools: list[ToolSpec]


AnyToolset = Annotated[ToolsetClass | ToolspecList, Field(discriminator="type")]


def toolset_tools(toolset: AnyToolset | None) -> tuple[dict[str, Any], ...]:
    """The tools as the chat completion API takes them. Raises `ConfigurationError`."""
    if toolset is None:
        return ()
    specs = toolset.tools if isinstance(toolset, ToolspecList) else _class_tools(toolset.class_path)
    return tuple(tool_json(spec.chat_tool) for spec in specs)


def tool_json(tool: ChatCompletionTool) -> dict[str, Any]:
    """One tool as JSON."""
    return tool.model_dump(mode="json", exclude_none=True)


def find_class(dotted: str, *, field: str) -> type:
    """The class of this dotted name, nested ones included. Raises `ConfigurationError`."""
    module_name, _, rest = dotted.rpartition(".")
    names = [rest]
    while module_name:
        try:
            found: Any = importlib.import_module(module_name)
        except ModuleNotFoundError as error:
            if error.name is None or not f"{module_name}.".startswith(f"{error.name}."):
                raise ConfigurationError(f"{field}: importing {module_name} failed: {error}") from error
            # `Outer` of `package.Outer.Inner` is not a module: look for it inside one.
            module_name, _, outer = module_name.rpartition(".")
            names.insert(0, outer)
            continue
        for name in names:
            found = getattr(found, name, None)
        if isinstance(found, type):
            return found
        break
    raise ConfigurationError(f"{field}: {dotted!r} is not an importable class; give its full dotted name")


def _class_tools(class_path: str) -> list[ToolSpec]:
    found = find_class(class_path, field="toolset.class_path")
    if not issubclass(found, Toolset):
        raise ConfigurationError(f"toolset.class_path: {class_path} is not a subclass of Rustic's Toolset")
    return found.toolsmanager().tool_specs
