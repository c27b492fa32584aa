from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import litellm

from ..litellm_api import seam
from .credentials import Target
from .deployment_limits import RATES
from .litellm_config import LiteLLMConfig
from .worker_keys import provider_of

logger = logging.getLogger(__name__)

#: LiteLLM would take a price in a call for the price of every call of that model.
_TOKEN_PRICES = ("input_cost_per_token", "output_cost_per_token")
#: Fields of a deployment that are for LiteLLM's router, and not for a call.
_ROUTERS_OWN = frozenset(
    {*_TOKEN_PRICES, *RATES, "max_retries", "num_retries", "weight", "order", "tags", "timeout"}
)
#: What a target carries for the router alone, and what of that changes no call.
_FOR_THE_ROUTER = frozenset({"metadata", "model_info"})
_CHANGE_NO_CALL = frozenset({*_TOKEN_PRICES, "db_model", "id", "member_auto_router"})
#: Its other strategies listen to LiteLLM's own calls for what they weigh.
_COUNTING_STRATEGY = "simple-shuffle"


class ModelRouter:
    """LiteLLM's router as the chooser among a name's deployments: it spreads load and rests those that fail.

    The calls themselves are made like all others, so that attempts, streams and errors are the same.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        """Raises `SettingsError` when LiteLLM does not accept the config."""
        self._router = config.build_router()
        strategy = config.router_settings.get("routing_strategy", _COUNTING_STRATEGY)
        self._only_counts = strategy == _COUNTING_STRATEGY
        # Some ways to choose weigh what the deployments have answered so far.
        litellm.logging_callback_manager.add_litellm_async_success_callback(
            self._router.deployment_callback_on_success
        )

    async def pick(self, name: str, messages: list[dict[str, Any]] | None, own: Mapping[str, Any]) -> Target:
        """A deployment that is not resting, with what the job brings of its `own` in its place.

        Raises `litellm.RouterRateLimitError` when all rest.
        """
        deployment = await self._router.select(name, {}, messages=messages)
        entry = deployment["litellm_params"]
        params = {key: value for key, value in entry.items() if key not in _ROUTERS_OWN}
        request = _about(name, deployment)
        provider = provider_of(params["model"], params.get("custom_llm_provider"))
        return Target(
            name, provider, {**request, **params, **own}, prices=_prices(entry), deployment=_id_of(deployment)
        )

    def short_arguments(self, arguments: Mapping[str, Any]) -> dict[str, Any] | None:
        """`arguments` without what only the router reads.

        None where the call to a deployment has to be LiteLLM's: for what the operator says of its model, or
        for a strategy that weighs more of an answer than `count` tells.
        """
        if "model_info" not in arguments:
            return dict(arguments)
        if not self._only_counts or arguments["model_info"].keys() - _CHANGE_NO_CALL:
            return None
        return {
            name: value
            for name, value in arguments.items()
            if name not in _FOR_THE_ROUTER and not (value is False and name in seam.DEPLOYMENT_FLAGS)
        }

    async def count(self, target: Target, usage: Mapping[str, Any] | None, response: object = None) -> None:
        """Count an answer that LiteLLM did not see for the deployment that `target` is, if it is one."""
        if "model_info" not in target.options:
            return
        answered = {
            "call_type": "acompletion",
            "litellm_params": _named(target),
            "standard_logging_object": {"total_tokens": (usage or {}).get("total_tokens") or 0},
        }
        now = datetime.now(UTC)
        try:
            await self._router.deployment_callback_on_success(answered, response, now, now)
        except Exception as error:
            # As LiteLLM does: a count that fails costs nobody an answer.
            logger.warning("an answer of %s was not counted: %s", target.model, type(error).__name__)

    def rest(self, target: Target, error: Exception) -> None:
        """Count a failure against the deployment that `target` is; it rests when it fails too often."""
        now = datetime.now(UTC)
        self._router.deployment_callback_on_failure(
            {"call_type": "acompletion", "exception": error, "litellm_params": _named(target)}, None, now, now
        )


def _named(target: Target) -> dict[str, Any]:
    """What of a target's options tells the router which of its deployments that is."""
    return {name: target.options[name] for name in _FOR_THE_ROUTER if name in target.options}


def _id_of(deployment: Mapping[str, Any]) -> str | None:
    identity = (deployment.get("model_info") or {}).get("id")
    return None if identity is None else str(identity)


def _about(name: str, deployment: Mapping[str, Any]) -> dict[str, Any]:
    """What LiteLLM needs to know of a deployment to rest it when it fails, and to weigh its answers."""
    info = deployment.get("model_info") or {}
    metadata = {
        "model_group": name,
        "deployment": deployment["litellm_params"]["model"],
        "deployment_model_name": deployment.get("model_name"),
        "model_info": info,
    }
    return {"model_info": info, "metadata": metadata}


def _prices(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    prices = [float(entry[name]) for name in _TOKEN_PRICES if entry.get(name) is not None]
    return (prices[0], prices[1]) if len(prices) == len(_TOKEN_PRICES) else None
