"""What a worker answers an operator who asks whether it could run jobs: never a secret."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from celery.worker.control import inspect_command

from rustic_ai.llm_queue.tasks.call import CompletionCall
from rustic_ai.llm_queue.tasks.limits import PolicyViolation
from rustic_ai.llm_queue.tasks.names import TASK_NAME

if TYPE_CHECKING:
    from ..provider.provider import Provider

#: The name of Celery's remote command.
WORKER_CHECK = "llm_queue_check"
_ANSWER_S = 5.0


@inspect_command(name=WORKER_CHECK, args=[("models", list)], signature="[model1 [model2 [... [modelN]]]]")
def answer_check(state: Any, models: Sequence[str] | None = None, **_: Any) -> dict[str, Any]:
    """Celery's remote command: the ids of the sealing keys, how far its clock is ahead of Redis', and what
    keeps each model from being called."""
    runtime = state.app.tasks[TASK_NAME].runtime
    report = runtime.check(list(models or ())[:100])
    return dict(state.consumer.pool.run(report).result(_ANSWER_S))


async def check_models(provider: Provider, models: Sequence[str]) -> dict[str, str | None]:
    """What would keep a job for each model from being sent, None where nothing would."""
    return {model: await _trouble(provider, model) for model in models}


async def _trouble(provider: Provider, model: str) -> str | None:
    from ..provider.failures.classify import NoCredential

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
