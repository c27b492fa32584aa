from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from rustic_ai.llm_queue.tasks.policy.limit_rule import Dimension

from ..provider.targets.credentials import Target
from ..provider.targets.model_names import model_names
from .gate import Claimed


@dataclass(frozen=True, slots=True)
class CallFacts:
    """What limits and budgets match a call by, and are split by."""

    values: Mapping[Dimension, tuple[str, ...]]
    #: A key that the job brings itself: its limits are its own.
    own_key: str

    @classmethod
    def of(cls, job: Claimed, target: Target) -> CallFacts:
        """Of a call that goes to `target`."""
        assert job.record is not None
        assert job.call is not None
        owner, endpoint_key = job.record.job.owner, job.call.endpoint.api_key
        key = target.options.get("api_key")
        own = endpoint_key is not None and key == endpoint_key.get_secret_value()
        provider, name = target.provider or "", str(target.options.get("model", target.model))
        return cls(
            values={
                "agent": (owner.agent,),
                "guild": (owner.guild,),
                "org": (owner.org,),
                "deployment": (target.deployment,) if target.deployment else (),
                "model": model_names(provider, name, target.model),
                "provider": (provider,),
                "credential": ("job" if own else "worker",),
            },
            own_key=str(key) if own else "",
        )

    def split(self, per: Sequence[Dimension], credential: str) -> list[str]:
        """The values that tell the buckets of a limit apart."""
        parts = [credential if one == "credential" else (self.values[one] or ("",))[0] for one in per]
        return [*parts, self.own_key]
