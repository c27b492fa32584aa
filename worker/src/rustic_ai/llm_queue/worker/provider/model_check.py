from __future__ import annotations

from collections.abc import Sequence

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.policy.limits import PolicyViolation

from .failures.classify import NoCredential
from .provider import Provider


async def check_models(provider: Provider, models: Sequence[str]) -> dict[str, str | None]:
    """What would keep a job for each model from being sent, None where nothing would."""
    return {model: await _trouble(provider, model) for model in models}


async def _trouble(provider: Provider, model: str) -> str | None:
    call = CompletionCall(model=model, params={"messages": [{"role": "user", "content": "?"}]})
    try:
        provider.check(call)
        await provider.target(call, model)
    except (PolicyViolation, NoCredential) as refusal:
        return str(refusal)
    except Exception as error:
        # LiteLLM's, for a model of its config that cannot be picked now.
        return type(error).__name__
    return None
