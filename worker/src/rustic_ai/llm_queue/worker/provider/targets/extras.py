from __future__ import annotations

import importlib.util
from collections.abc import Mapping

from ..failures.kinds import MissingExtra

#: The module that LiteLLM needs for a provider, and the extra of this package that brings it.
_NEEDED: Mapping[str, tuple[str, str]] = {
    "bedrock": ("boto3", "bedrock"),
    "bedrock_converse": ("boto3", "bedrock"),
    "sagemaker": ("boto3", "bedrock"),
    "sagemaker_chat": ("boto3", "bedrock"),
    "vertex_ai": ("google.auth", "vertex"),
    "vertex_ai_beta": ("google.auth", "vertex"),
}
AZURE_AD = ("azure.identity", "azure")


def require_extra(provider: str | None) -> None:
    """Raise `MissingExtra` when a package that LiteLLM needs for the provider is not there."""
    if provider is not None and provider in _NEEDED:
        require(provider, *_NEEDED[provider])


def require(provider: str, module: str, extra: str) -> None:
    """Raise `MissingExtra` unless `module` can be imported."""
    try:
        found = importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        raise MissingExtra(
            f"models of {provider} need the package of {module} on the worker: "
            f"install rusticai-llm-queue[{extra}]"
        )
