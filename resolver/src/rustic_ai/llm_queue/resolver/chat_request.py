from __future__ import annotations

from typing import Annotated

from pydantic import BeforeValidator, Field
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionRequest

from rustic_ai.llm_queue.tasks.call import ServiceTier, WhenLimited
from rustic_ai.llm_queue.tasks.job import Priority, PriorityName, priority_of
from rustic_ai.llm_queue.tasks.reuse.options import LONGEST_CACHE_TTL_S, CacheMode, CacheScope
from rustic_ai.llm_queue.tasks.usage import MOST_USD


class QueueChatCompletionRequest(ChatCompletionRequest):
    """Core's request, with what the queue alone understands, and `service_tier`.

    A field that is None leaves it to the property.

    Core's own class serves for every other call; a field that it does not know it would drop in silence.
    """

    #: Which calls go first: `interactive`, `normal`, `low` or `batch`, or their numbers 0, 3, 6 and 9.
    priority: Annotated[Priority | PriorityName | None, BeforeValidator(priority_of)] = None
    #: When a limit has no room: wait for it, ask the next model instead, or fail at once.
    when_limited: WhenLimited | None = None
    #: Longest wait for limits, in seconds.
    max_wait: Annotated[float, Field(ge=0, allow_inf_nan=False)] | None = None
    #: Seconds after which a stream that has said nothing is tried again, or with the next model.
    first_token_timeout: Annotated[float, Field(gt=0, allow_inf_nan=False)] | None = None
    #: At which of the provider's tiers the call goes.
    service_tier: ServiceTier | None = None
    #: The most that the call may cost, in dollars.
    max_cost_usd: Annotated[float, Field(gt=0, le=MOST_USD, allow_inf_nan=False)] | None = None
    #: The run whose calls share a budget.
    budget_run: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    #: Wait for the answer of an equal call that is under way.
    single_flight: bool | None = None
    #: Seconds for which the answer is kept for equal calls; 0 keeps none.
    cache_ttl_s: Annotated[float, Field(ge=0, le=LONGEST_CACHE_TTL_S, allow_inf_nan=False)] | None = None
    #: Which calls may share an answer.
    cache_scope: CacheScope | None = None
    #: `default`, `no-cache` (ask anew, keep the answer), `no-store` (take one, keep none) or `off`.
    cache: CacheMode | None = None
    #: Calls with different ones are never equal.
    cache_key_extra: Annotated[str, Field(max_length=512)] | None = None


#: The fields that core's request does not have, and that are no parameters as they stand.
QUEUE_FIELDS = QueueChatCompletionRequest.model_fields.keys() - ChatCompletionRequest.model_fields.keys()
