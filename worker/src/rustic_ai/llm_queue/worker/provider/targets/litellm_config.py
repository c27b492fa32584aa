from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from rustic_ai.llm_queue.tasks.names import ENV_PREFIX
from rustic_ai.llm_queue.tasks.scrub import Scrubber
from rustic_ai.llm_queue.tasks.settings import SettingsError

VARIABLE = f"{ENV_PREFIX}LITELLM_CONFIG"
_REFERENCE = "os.environ/"
#: Settings of LiteLLM's router that shape which deployment is taken. What concerns retries and
#: fallbacks is ours, and what needs other services is not supported.
_ROUTER_SETTINGS = frozenset(
    {"allowed_fails", "cooldown_time", "disable_cooldowns", "enable_pre_call_checks", "model_group_alias",
     "routing_strategy", "routing_strategy_args"}
)  # fmt: skip


class LiteLLMConfig:
    """LiteLLM's own config file: its `model_list`, and where to find what it refers to."""

    def __init__(
        self,
        model_list: list[dict[str, Any]],
        router_settings: Mapping[str, Any],
        variables: Mapping[str, str],
    ) -> None:
        self.model_list = model_list
        self.router_settings = router_settings
        #: Its `environment_variables`, for those the environment itself does not have.
        self.variables = variables

    def providers(self) -> dict[str, frozenset[str]]:
        """The providers behind each model a request may name."""
        from .worker_keys import provider_of  # only after LiteLLM's environment stands

        behind: dict[str, frozenset[str]] = {}
        for entry in self.model_list:
            params = entry["litellm_params"]
            provider = provider_of(params["model"], params.get("custom_llm_provider")) or "unknown"
            behind[entry["model_name"]] = behind.get(entry["model_name"], frozenset()) | {provider}
        for alias, target in (self.router_settings.get("model_group_alias") or {}).items():
            name = str(target.get("model") if isinstance(target, dict) else target)
            behind[alias] = behind.get(name, frozenset())
        return behind

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys it holds."""
        keys = (entry["litellm_params"].get("api_key") for entry in self.model_list)
        return tuple(key for key in keys if isinstance(key, str))

    def build_router(self) -> Any:
        """A `litellm.Router` that spreads calls and rests failing deployments, and retries nothing."""
        from litellm.router import Router  # only after LiteLLM's environment stands

        try:
            return Router(
                model_list=[
                    entry | {"litellm_params": entry["litellm_params"] | {"max_retries": 0, "num_retries": 0}}
                    for entry in self.model_list
                ],
                num_retries=0,
                max_fallbacks=0,
                set_verbose=False,
                **{name: value for name, value in self.router_settings.items() if name in _ROUTER_SETTINGS},
            )
        except Exception as error:
            # LiteLLM raises whatever class it likes here; the operator needs the variable's name.
            reason = Scrubber(self.secrets).scrub(f"{type(error).__name__}: {error}", 500)
            raise SettingsError(f"{VARIABLE}: LiteLLM does not accept it: {reason}") from None


def read_litellm_config(path: Path, environment: Mapping[str, str] = os.environ) -> LiteLLMConfig:
    """Read LiteLLM's config file. Raises `SettingsError` naming the variable and what is wrong."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{VARIABLE}: cannot read {str(path)!r}: {reason}") from None
    except yaml.YAMLError as error:
        where = getattr(error, "problem_mark", None)
        # The error's own text quotes the line, which may hold a key.
        raise SettingsError(f"{VARIABLE}: {str(path)!r} is not YAML{_line(where)}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{VARIABLE}: {str(path)!r} is not a mapping with a model_list")
    variables = {
        name: str(value)
        for name, value in _section(document, "environment_variables").items()
        if name not in environment
    }
    known = {**variables, **environment}
    entries = document.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{VARIABLE}: {str(path)!r} has no model_list")
    return LiteLLMConfig(
        [_entry(entry, index, known) for index, entry in enumerate(entries)],
        _resolve(_section(document, "router_settings"), "router_settings", known),
        variables,
    )


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{VARIABLE}: {name} is not a mapping")
    return section


def _entry(entry: Any, index: int, environment: Mapping[str, str]) -> dict[str, Any]:
    where = f"model_list[{index}]"
    if not isinstance(entry, dict) or not isinstance(entry.get("model_name"), str):
        raise SettingsError(f"{VARIABLE}: {where} has no model_name")
    if "*" in entry["model_name"]:
        raise SettingsError(
            f"{VARIABLE}: {where} is named {entry['model_name']!r}; name each model by itself"
        )
    params = entry.get("litellm_params")
    if not isinstance(params, dict) or not isinstance(params.get("model"), str):
        raise SettingsError(f"{VARIABLE}: {where} ({entry['model_name']}) has no litellm_params.model")
    resolved: dict[str, Any] = _resolve(entry, where, environment)
    return resolved


def _resolve(value: Any, where: str, environment: Mapping[str, str]) -> Any:
    """`value` with each `os.environ/NAME` replaced by the variable, which must be set."""
    match value:
        case dict():
            return {key: _resolve(item, f"{where}.{key}", environment) for key, item in value.items()}
        case list():
            return [_resolve(item, f"{where}[{index}]", environment) for index, item in enumerate(value)]
        case str() if value.startswith(_REFERENCE):
            name = value.removeprefix(_REFERENCE)
            if not environment.get(name):
                raise SettingsError(f"{VARIABLE}: {where} refers to the variable {name}, which is not set")
            return environment[name]
        case _:
            return value


def _line(mark: Any) -> str:
    return f" (line {mark.line + 1})" if mark is not None else ""
