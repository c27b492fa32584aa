"""The simulator's memory: plans still to be played, and every request it has seen."""

import asyncio
import re

from support.providers.provider_plan import Plan, ProviderRequest, Step

_TAG = re.compile(r"#([A-Za-z0-9][\w.-]*)")
_HEALTHY = Step()


class ProviderBook:
    """Plans, holds, records and counters of one simulator."""

    def __init__(self) -> None:
        self.requests: list[ProviderRequest] = []
        self.served = 0
        self.open = 0
        self.max_open = 0
        self._plans: list[tuple[Plan, list[tuple[Step, int | None]]]] = []
        self._holds: dict[str, asyncio.Event] = {}
        self._released: set[str] = set()
        self._next_id = 1
        self._first_id = 1

    def add(self, plan: Plan) -> None:
        """Add a plan; a newer one goes before an equally particular older one."""
        self._plans.insert(0, (plan, [(step, step.times) for step in plan.steps]))

    def reset(self) -> None:
        """Forget plans and requests; what is held goes on, and what is still open counts no more."""
        for hold in self._holds.values():
            hold.set()
        self._holds.clear()
        self._released.clear()
        self._plans.clear()
        self.requests = []
        self.served = 0
        self.open = self.max_open = 0
        self._first_id = self._next_id

    def release(self, tag: str | None) -> None:
        """Let held answers go: those of one tag, now and later, or all there are."""
        for name, hold in self._holds.items():
            if tag in (None, name):
                hold.set()
        if tag is not None:
            self._released.add(tag)

    async def held(self, tag: str) -> None:
        """Wait for `release` of this tag."""
        if tag not in self._released:
            await self._holds.setdefault(tag, asyncio.Event()).wait()

    def open_request(self, request: ProviderRequest) -> None:
        """Put a request on record."""
        request.id = self._next_id
        self._next_id += 1
        self.requests.append(request)
        self.served += 1
        self.open += 1
        self.max_open = max(self.max_open, self.open)

    def close_request(self, request: ProviderRequest) -> None:
        """Its answer is no longer under way."""
        if request.id >= self._first_id:
            self.open -= 1

    def step_for(self, prompt: str, model: str, provider: str) -> tuple[str | None, Step]:
        """The tag under which a request goes, and the step that answers it."""
        tags = _TAG.findall(prompt)
        for plan, steps in sorted(self._plans, key=lambda one: one[0].conditions, reverse=True):
            if steps and plan.matches(tags, model, provider):
                step, left = steps[0]
                if left is not None:
                    steps[0] = (step, left - 1)
                    if left <= 1:
                        steps.pop(0)
                return (tags[0] if plan.tag == "*" and tags else plan.tag), step
        return (tags[0] if tags else None), _HEALTHY
