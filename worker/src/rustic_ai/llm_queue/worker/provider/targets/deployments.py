from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import litellm

from .credentials import Target
from .deployment_limits import RATES
from .litellm_config import LiteLLMConfig
from .worker_keys import provider_of

#: LiteLLM would take a price in a call for the price of every call of that model.
_TOKEN_PRICES = ("input_cost_per_token", "output_cost_per_token")
#: Fields of a deployment that are for LiteLLM's router, and not for a call.
_ROUTERS_OWN = frozenset(
    {*_TOKEN_PRICES, *RATES, "max_retries", "num_retries", "weight", "order", "tags", "timeout"}
)


class ModelRouter:
    """LiteLLM's router as the chooser among a name's deployments: it spreads load and rests those that fail.

    The calls themselves are made like all others, so that attempts, streams and errors are the same.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        """Raises `SettingsError` when LiteLLM does not accept the config."""
        self._router = config.build_router()
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

    def rest(self, target: Target, error: Exception) -> None:
        """Count a failure against the deployment that `target` is; it rests when it fails too often."""
        names = ("model_info", "metadata")
        about = {name: target.options[name] for name in names if name in target.options}
        now = datetime.now(UTC)
        self._router.deployment_callback_on_failure(
            {"call_type": "acompletion", "exception": error, "litellm_params": about}, None, now, now
        )


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
