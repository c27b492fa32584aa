from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber
from rustic_ai.llm_queue.tasks.settings import SettingsError

from .config_document import VARIABLE, read_document
from .deployment_limits import deployment_limits, name_limited

_REFERENCE = "os.environ/"
#: What an entry of the model list may hold, and the parameter by which it names a credential.
_ENTRY = ("model_name", "litellm_params", "model_info")
_CREDENTIAL = "litellm_credential_name"
_SECRET = re.compile(r"key|token|secret|passw|credential", re.IGNORECASE)
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
        self.model_list = name_limited(model_list)
        #: What its deployments admit, for all workers together.
        self.limits = deployment_limits(self.model_list)
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

    def models(self) -> set[str]:
        """The models a request may name, and those that stand behind them."""
        behind = {str(entry["litellm_params"]["model"]) for entry in self.model_list}
        return {*self.providers(), *behind}

    @property
    def secrets(self) -> tuple[str, ...]:
        """The keys it holds."""
        params = [pair for entry in self.model_list for pair in entry["litellm_params"].items()]
        return tuple(value for name, value in params if _SECRET.search(name) and isinstance(value, str))

    @property
    def urls(self) -> tuple[str, ...]:
        """The addresses it names."""
        bases = (entry["litellm_params"].get("api_base") for entry in self.model_list)
        return tuple(base for base in bases if isinstance(base, str))

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
                **self.router_settings,
            )
        except Exception as error:
            # LiteLLM raises whatever class it likes here; the operator needs the variable's name.
            reason = Scrubber(self.secrets).scrub(f"{type(error).__name__}: {error}", 500)
            raise SettingsError(f"{VARIABLE}: LiteLLM does not accept it: {reason}") from None


def read_litellm_config(path: Path, environment: Mapping[str, str] = os.environ) -> LiteLLMConfig:
    """Read LiteLLM's config file. Raises `SettingsError` naming the variable and what is wrong."""
    document = read_document(path)
    variables = {
        name: str(value)
        for name, value in _section(document, "environment_variables").items()
        if name not in environment
    }
    known = {**variables, **environment}
    entries = document.get("model_list")
    if not isinstance(entries, list) or not entries:
        raise SettingsError(f"{VARIABLE}: {str(path)!r} has no model_list")
    credentials = _credentials(document.get("credential_list") or [], known)
    return LiteLLMConfig(
        [_entry(entry, index, known, credentials) for index, entry in enumerate(entries)],
        _router_settings(document, known),
        variables,
    )


def _section(document: Mapping[str, Any], name: str) -> dict[str, Any]:
    section = document.get(name) or {}
    if not isinstance(section, dict):
        raise SettingsError(f"{VARIABLE}: {name} is not a mapping")
    return section


def _router_settings(document: Mapping[str, Any], environment: Mapping[str, str]) -> dict[str, Any]:
    settings = _section(document, "router_settings")
    if unknown := sorted(str(name) for name in settings if name not in _ROUTER_SETTINGS):
        raise SettingsError(
            f"{VARIABLE}: router_settings.{unknown[0][:100]} is not used by workers: take it out. Retries, "
            f"fallbacks and timeouts are the calls' own. Used are {', '.join(sorted(_ROUTER_SETTINGS))}"
        )
    resolved: dict[str, Any] = _resolve(settings, "router_settings", environment)
    return resolved


def _credentials(entries: Any, environment: Mapping[str, str]) -> dict[str, dict[str, Any]]:
    """The values of each credential that entries of the model list may name."""
    if not isinstance(entries, list):
        raise SettingsError(f"{VARIABLE}: credential_list is not a list")
    credentials = {}
    for index, entry in enumerate(entries):
        where = f"credential_list[{index}]"
        name = entry.get("credential_name") if isinstance(entry, dict) else None
        if not isinstance(name, str) or not isinstance(values := entry.get("credential_values"), dict):
            raise SettingsError(f"{VARIABLE}: {where} has no credential_name and credential_values")
        credentials[name] = _resolve(values, where, environment)
    return credentials


def _entry(
    entry: Any, index: int, environment: Mapping[str, str], credentials: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any]:
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
    if unknown := sorted(str(name) for name in entry if name not in _ENTRY):
        raise SettingsError(f"{VARIABLE}: {where} has {unknown[0][:100]!r}; it takes {', '.join(_ENTRY)}")
    resolved: dict[str, Any] = _resolve(entry, where, environment)
    name = resolved["litellm_params"].pop(_CREDENTIAL, None)
    if name is None:
        return resolved
    if name not in credentials:
        raise SettingsError(f"{VARIABLE}: {where} names a credential that credential_list does not have")
    # The entry's own values win, as in LiteLLM.
    return resolved | {"litellm_params": {**credentials[name], **resolved["litellm_params"]}}


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
