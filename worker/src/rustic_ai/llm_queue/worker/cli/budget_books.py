from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from datetime import UTC, date, datetime, time, timedelta

from redis.asyncio import Redis

from rustic_ai.llm_queue.tasks.ledger import keys
from rustic_ai.llm_queue.tasks.ledger.books import Books, CostRow
from rustic_ai.llm_queue.tasks.ledger.clock import now_ms
from rustic_ai.llm_queue.tasks.policy.budget_rule import NANO, BudgetRule
from rustic_ai.llm_queue.tasks.policy.limit_rule import Dimension

from ..admission.budget_period import BudgetPeriod
from ..provider.targets.litellm_config import read_litellm_config
from ..settings import WorkerSettings

ModelNames = Callable[[str], tuple[str, ...]]

_IN_THE_BOOKS: frozenset[Dimension] = frozenset({"agent", "guild", "org", "model"})
_LONGEST = timedelta(days=31)


def model_names_for(rule: BudgetRule, settings: WorkerSettings) -> ModelNames:
    """The names that calls of a model of the books were matched and split by.

    Takes seconds where the rule goes by models: LiteLLM knows their providers.
    """
    if "model" not in {*rule.per, *rule.match.named}:
        return lambda model: (model,)
    from ..provider.litellm_api.setup import load_litellm

    load_litellm(settings)
    from ..provider.targets.model_names import model_names  # only after LiteLLM's environment stands
    from ..provider.targets.worker_keys import provider_of

    config = read_litellm_config(settings.litellm_config) if settings.litellm_config else None
    routed = {entry["model_name"] for entry in config.model_list} if config else set()

    def names(model: str) -> tuple[str, ...]:
        provider = None if model in routed else provider_of(model)
        if provider is None:
            raise ValueError(
                f"the books do not tell whose model {model!r} is, as jobs name it: {rule.name!r}, which goes "
                "by models, cannot be rebuilt"
            )
        return model_names(provider, model, model)

    return names


async def spent_by_the_books(
    redis: Redis, rule: BudgetRule, key: bytes, model_names: ModelNames
) -> dict[str, int]:
    """What the budget has spent in the period under way, in nanodollars or tokens by `keys.budget_id`.

    Args:
        model_names: `model_names_for` the rule.

    Raises `ValueError` for a budget that the books cannot tell, redis-py's `RedisError`.
    """
    foreign = {*rule.per, *rule.match.named} - _IN_THE_BOOKS
    if foreign or rule.period in ("total", "run"):
        what = f"of a {rule.period}" if not foreign else f"by {', '.join(sorted(foreign))}"
        raise ValueError(f"the books keep no sums {what}: {rule.name!r} cannot be rebuilt")
    if rule.usd_a_token is not None:
        raise ValueError(
            f"the books know no cost of models without a price: {rule.name!r}, which has one for their "
            "tokens (unpriced), cannot be rebuilt"
        )
    books = Books(redis)
    today = await books.today()
    period = BudgetPeriod.at(await now_ms(redis), rule.period, rule.timezone)
    sums: Counter[str] = Counter()
    for row in await books.rows(_first_day(today, period, rule), today):
        values: Mapping[Dimension, tuple[str, ...]] = {
            "org": (row.org,),
            "guild": (row.guild,),
            "agent": (row.agent,),
            "model": model_names(row.model),
        }
        if rule.match.admits(values):
            split = [*(values[one][0] for one in rule.per), ""]
            sums[keys.budget_id(rule.name, split, period.name, key)] += _amount(row, rule)
    return dict(sums)


def _first_day(today: date, period: BudgetPeriod, rule: BudgetRule) -> date:
    """The first day, in UTC, that falls into the period of today."""
    day = today
    while today - day < _LONGEST:
        noon = datetime.combine(day - timedelta(days=1), time(12), UTC)
        if BudgetPeriod.at(round(noon.timestamp() * 1000), rule.period, rule.timezone) != period:
            return day
        day -= timedelta(days=1)
    return day


def _amount(row: CostRow, rule: BudgetRule) -> int:
    if rule.tokens is not None:
        return row.prompt_tokens + row.completion_tokens
    return -int(-row.cost_usd * NANO // 1)
