from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..litellm_api import seam
from .credentials import Target
from .litellm_config import LiteLLMConfig
from .worker_keys import provider_of

#: LiteLLM would take a price in a call for the price of every call of that model.
_TOKEN_PRICES = ("input_cost_per_token", "output_cost_per_token")
#: What a deployment's entry tells LiteLLM's router, and not a call.
_ROUTERS_OWN = frozenset(
    {*_TOKEN_PRICES, "max_retries", "num_retries", "rpm", "tpm", "weight", "order", "tags", "timeout"}
)


class ModelRouter:
    """LiteLLM's router as the chooser among a name's deployments: it spreads load and rests those that fail.

    The calls themselves are made like all others, so that attempts, streams and errors are the same.
    """

    def __init__(self, config: LiteLLMConfig) -> None:
        """Raises `SettingsError` when LiteLLM does not accept the config."""
        self._router = config.build_router()

    async def pick(self, name: str, messages: list[dict[str, Any]] | None, own: Mapping[str, Any]) -> Target:
        """A deployment that is not resting, with what the job brings of its `own` in its place.

        Raises `litellm.RouterRateLimitError` when all rest.
        """
        request: dict[str, Any] = {}
        deployment = await seam.get_available_deployment(
            self._router, model=name, messages=messages, request_kwargs=request
        )
        # It writes the deployment's id where the router's own failure callback looks for it.
        seam.update_kwargs_with_deployment(self._router, deployment=deployment, kwargs=request)
        entry = deployment["litellm_params"]
        params = {key: value for key, value in entry.items() if key not in _ROUTERS_OWN}
        request.pop("timeout", None)
        provider = provider_of(params["model"], params.get("custom_llm_provider"))
        return Target(
            name, provider, {**request, **params, **own}, prices=_prices(entry), deployment=_id_of(deployment)
        )


def _id_of(deployment: Mapping[str, Any]) -> str | None:
    identity = (deployment.get("model_info") or {}).get("id")
    return None if identity is None else str(identity)


def _prices(entry: Mapping[str, Any]) -> tuple[float, float] | None:
    prices = [float(entry[name]) for name in _TOKEN_PRICES if entry.get(name) is not None]
    return (prices[0], prices[1]) if len(prices) == len(_TOKEN_PRICES) else None
