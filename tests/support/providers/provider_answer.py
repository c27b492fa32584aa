"""One answer of a simulated model, apart from any provider's wire format."""

import hashlib
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from support.providers.provider_plan import Step, ToolCall

_WORDS = (  # noqa: SIM905 - a list of forty strings would take forty lines
    "river stone lantern ember orchard harbor violet copper meadow thunder willow paper candle mountain "
    "silver garden winter morning ocean feather bridge castle forest island mirror needle pocket signal "
    "timber window yellow zephyr café naïve Straße 東京 emoji🙂 tab\tstop line\nbreak"
).split(" ")


def derived_answer(prompt: str, words: int = 12, choice: int = 0) -> str:
    """The text the simulator answers a prompt with unless its plan says otherwise.

    The same prompt always gives the same text, other prompts other texts, with some
    characters that a careless encoder would break.
    """
    seed = hashlib.sha256(f"{choice}|{prompt}".encode()).hexdigest()
    picked = []
    for index in range(words):
        number = int.from_bytes(hashlib.sha256(f"{seed}{index}".encode()).digest()[:4])
        picked.append(_WORDS[number % len(_WORDS)])
    return f"[{seed[:8]}] " + " ".join(picked)


@dataclass(frozen=True)
class Event:
    """One piece of a stream on the wire, and what content it carries."""

    data: bytes
    text: str = ""
    choice: int = 0
    content: bool = False


@dataclass(frozen=True)
class Answer:
    """What the model says, and what it costs in tokens."""

    id: str
    model: str
    created: int
    texts: list[str]
    finish_reason: str
    prompt_tokens: int
    completion_tokens: int
    tool_calls: list[ToolCall] = field(default_factory=list)
    reasoning: str | None = None
    refusal: str | None = None
    cached_tokens: int = 0
    reasoning_tokens: int = 0
    include_usage: bool = True
    chunk_chars: int | None = None
    with_reason: bool = True
    service_tier: str = "default"

    def pieces(self, text: str) -> list[str]:
        """The text cut into stream chunks."""
        if self.chunk_chars is None:
            return re.findall(r"\s*\S+\s*", text) or ([text] if text else [])
        size = self.chunk_chars
        return [text[at : at + size] for at in range(0, len(text), size)]


def argument_pieces(arguments: str, size: int = 7) -> Iterator[str]:
    """A tool call's arguments in the small pieces that providers stream."""
    for at in range(0, len(arguments), size):
        yield arguments[at : at + size]


def make_answer(
    step: Step, *, number: int, model: str, prompt: str, choices: int, created: int, tier: str | None = None
) -> Answer:
    """What a healthy step says to this prompt."""
    if step.text is not None:
        texts = [step.text if index == 0 else f"{step.text} ({index})" for index in range(choices)]
    elif step.tool_calls or step.refusal:
        texts = [""] * choices
    else:
        texts = [derived_answer(prompt, step.words, index) for index in range(choices)]
    calls = [
        call if call.id else call.model_copy(update={"id": f"call_{number}_{index}"})
        for index, call in enumerate(step.tool_calls)
    ]
    written = sum(len(text.split()) for text in texts) + sum(len(call.arguments) // 4 + 1 for call in calls)
    return Answer(
        id=f"stub-{number}",
        model=model,
        created=created,
        texts=texts,
        finish_reason=step.finish_reason or ("tool_calls" if calls else "stop"),
        prompt_tokens=step.prompt_tokens if step.prompt_tokens is not None else len(prompt) // 4 + 1,
        completion_tokens=step.completion_tokens if step.completion_tokens is not None else max(written, 1),
        tool_calls=calls,
        reasoning=step.reasoning,
        refusal=step.refusal,
        cached_tokens=step.cached_tokens,
        reasoning_tokens=step.reasoning_tokens,
        chunk_chars=step.chunk_chars,
        with_reason=step.fault != "no_reason",
        service_tier=step.service_tier or tier or "default",
    )
