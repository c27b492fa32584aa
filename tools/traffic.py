"""Jobs of several guilds, as a day brings them: what the pictures of the dashboard show."""

from __future__ import annotations

import random
import threading
import time
from collections import deque

from rustic_ai.llm_queue.resolver import JobHandle, QueueEmbeddingsResolver, QueueError, QueueLLMResolver
from support.callers.llm import ask
from support.providers.provider import ProviderStub, Step

#: Guild, agent, model, and the lengths of its prompts and answers in tokens.
CALLERS = (
    ("helpdesk", "triage", "openai/gpt-4o-mini", 1_900, 180),
    ("helpdesk", "answerer", "openai/gpt-4o", 5_200, 620),
    ("research", "reader", "anthropic/claude-haiku-4-5", 11_000, 900),
    ("research", "writer", "gemini/gemini-2.5-flash", 7_600, 1_500),
    ("billing", "auditor", "openai/gpt-4o-mini", 1_000, 90),
)
SPARE = "anthropic/claude-haiku-4-5"
#: How calls fare, and how often of a hundred.
FATES = {
    "ok": 43,
    "streamed": 36,
    "retried": 6,
    "limited": 4,
    "fallback": 3,
    "refused": 2,
    "wrong": 1,
    "broken": 1,
    "late": 1,
    "left": 2,
}
#: The guilds of another organisation; all others are acme's.
GLOBEX = ("billing",)
#: Of ten calls, how many ask one of so few questions that their answers are kept and shared.
COMMON_OF_TEN, QUESTIONS = 2, 12
#: Of ten calls, how many have some texts embedded beside.
EMBEDDED_OF_TEN = 3
EVERY_S, RUSH_AFTER_S, RUSH = 0.25, 42.0, 110


class Traffic:
    """Submits jobs for so many seconds; one rush is more than the workers take at once."""

    def __init__(self, provider: ProviderStub, lasts_s: float) -> None:
        self._provider, self._lasts_s = provider, lasts_s
        self._chance = random.Random(1)  # noqa: S311  # the same pictures each time, no secret
        self._leaving: deque[tuple[float, JobHandle]] = deque()
        self._submitted: list[JobHandle] = []
        self._trouble: QueueError | None = None

    def run(self) -> None:
        """Submit until the time is over."""
        try:
            self._run()
        except QueueError as error:
            self._trouble = error

    def check(self) -> None:
        """Raises what ended `run` early; `AssertionError` when hardly any job was answered."""
        if self._trouble is not None:
            raise self._trouble
        assert len(self._submitted) > self._lasts_s, len(self._submitted)

    def _run(self) -> None:
        began, rushed = time.monotonic(), False
        while (passed_s := time.monotonic() - began) < self._lasts_s:
            if passed_s > RUSH_AFTER_S and not rushed:
                rushed = True
                for number in range(RUSH):
                    self._submit("ok", priority=0 if number % 3 else 6)
            self._submit(self._fate())
            while self._leaving and self._leaving[0][0] < time.monotonic():
                self._leaving.popleft()[1].cancel()
            time.sleep(EVERY_S * self._chance.uniform(0.5, 1.5))

    def _fate(self) -> str:
        (fate,) = self._chance.choices(list(FATES), weights=list(FATES.values()))
        return fate

    def _submit(self, fate: str, priority: int = 0) -> None:
        guild, agent, model, prompt, completion = self._chance.choice(CALLERS)
        tag = f"call{len(self._submitted)}"
        common = fate == "ok" and self._chance.randrange(10) < COMMON_OF_TEN
        if common:
            tag = f"question{self._chance.randrange(QUESTIONS)}"
        if self._chance.randrange(10) < EMBEDDED_OF_TEN:
            threading.Thread(target=_embed, args=(len(self._submitted),), daemon=True).start()
        self._plan(tag, fate, model, prompt, completion)
        llm = QueueLLMResolver(
            model=model,
            priority=priority,
            timeout=4 if fate == "late" else 120,
            fallback_models=[SPARE] if fate == "fallback" else [],
            single_flight=common,
            cache_ttl_s=600 if common else 0,
        ).resolve("globex" if guild in GLOBEX else "acme", guild, agent)
        handle = llm.submit(ask(f"Dear all #{tag}"), stream=fate == "streamed")
        self._submitted.append(handle)
        if fate == "left":
            self._leaving.append((time.monotonic() + 2, handle))

    def _plan(self, tag: str, fate: str, model: str, prompt: int, completion: int) -> None:
        chance, provider = self._chance, model.partition("/")[0]
        tokens = {
            "prompt_tokens": round(prompt * chance.uniform(0.6, 1.4)),
            "completion_tokens": round(completion * chance.uniform(0.5, 1.5)),
        }
        answer = Step(text="ok", delay_s=chance.lognormvariate(0.3, 0.5), **tokens)
        match fate:
            case "streamed":
                pace_s = chance.uniform(0.02, 0.06)
                first_s = chance.lognormvariate(-0.9, 0.5)
                self._provider.plan(
                    tag, Step(words=30, first_token_delay_s=first_s, chunk_delay_s=pace_s, **tokens)
                )
            case "retried":
                self._provider.plan(tag, Step(status=503), answer)
            case "limited":
                self._provider.plan(tag, Step(status=429, retry_after_s=1), answer)
            case "fallback" if not model.startswith("anthropic/"):
                self._provider.plan(tag, Step(status=404, times=None), provider=provider)
            case "refused":
                self._provider.plan(tag, self._provider.bad_key(provider))
            case "wrong":
                self._provider.plan(tag, Step(status=400))
            case "broken":
                self._provider.plan(tag, Step(status=500, times=None))
            case "late" | "left":
                self._provider.plan(tag, Step(hold=True))
            case _:
                self._provider.plan(tag, answer)


def _embed(number: int) -> None:
    llm = QueueEmbeddingsResolver(model="openai/text-embedding-3-small").resolve("acme", "research", "reader")
    llm.embed([f"page {number}, paragraph {paragraph}" for paragraph in range(1 + number % 5)])
