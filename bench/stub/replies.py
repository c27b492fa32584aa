"""The bytes of each provider's replies, made once from the true formats in the tests' simulator."""

from __future__ import annotations

import base64
import json
import time
from array import array
from dataclasses import dataclass, field
from functools import cache
from typing import Any

from bench.stub import ANSWER
from support.providers.provider_answer import Answer
from support.providers.wire.anthropic import AnthropicWire
from support.providers.wire.base import Wire
from support.providers.wire.gemini import GeminiWire
from support.providers.wire.openai import AzureWire, OpenAIWire

#: As long as the clock of the first word, which takes its place when it is sent.
_CLOCK = "0" * 20


class DeepSeekWire(OpenAIWire):
    """``POST /deepseek/chat/completions``: OpenAI's format, which LiteLLM calls by its own client."""

    provider = "deepseek"
    base_path = "/deepseek"


WIRES: tuple[Wire, ...] = (OpenAIWire(), DeepSeekWire(), AnthropicWire(), GeminiWire(), AzureWire())


@dataclass(frozen=True)
class Replies:
    """What one provider answers for one model."""

    wire: Wire
    model: str
    whole: bytes = field(init=False)

    def __post_init__(self) -> None:
        body = json.dumps(self.wire.whole(self._answer(ANSWER, 20))).encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
        object.__setattr__(self, "whole", head.encode() + body)

    @cache  # noqa: B019 - a handful of replies, which live as long as the process
    def stream(self, words: int) -> list[tuple[bytes, bool]]:
        """The stream's pieces as HTTP chunks, and whether a piece is a word."""
        text = f"{_CLOCK} " + "".join(f"word{number % 10} " for number in range(1, words))
        events = self.wire.events(self._answer(text, words))
        return [(_framed(event.data), event.content) for event in events]

    def _answer(self, text: str, tokens: int) -> Answer:
        return Answer(
            id="1",
            model=self.model,
            created=1_700_000_000,
            texts=[text],
            finish_reason="stop",
            prompt_tokens=20,
            completion_tokens=tokens,
        )


STREAM_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
STREAM_END = b"0\r\n\r\n"


@cache
def replies(wire: Wire, model: str) -> Replies:
    """What this provider answers for this model."""
    return Replies(wire, model)


def on_the_clock(piece: bytes) -> bytes:
    """A piece whose first word is the moment it is sent, on the clock that all processes share."""
    return piece.replace(_CLOCK.encode(), f"{time.monotonic_ns():020d}".encode(), 1)


def asked(path: str, body: dict[str, Any]) -> tuple[Replies, bool]:
    """The replies that a request wants, and whether streamed. Raises `LookupError`."""
    for wire in WIRES:
        if target := wire.target(path, body):
            return replies(wire, target.model), target.stream
    raise LookupError(f"no provider has the path {path}")


def embeddings(body: dict[str, Any]) -> bytes:
    """The answer to a call for embeddings: one vector for all texts, which costs next to nothing."""
    vector = _vector(int(body.get("dimensions") or 1_536), body.get("encoding_format") == "base64")
    texts = body["input"]
    data = ",".join(f'{{"object":"embedding","index":{at},"embedding":{vector}}}' for at in range(len(texts)))
    usage = f'{{"prompt_tokens":{len(texts)},"total_tokens":{len(texts)}}}'
    answer = f'{{"object":"list","data":[{data}],"model":"text-embedding-3-small","usage":{usage}}}'.encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(answer)}\r\n\r\n"
    return head.encode() + answer


@cache
def _vector(dimensions: int, as_base64: bool) -> str:
    numbers = array("f", ((at % 97) / 97 for at in range(dimensions)))
    packed = base64.b64encode(numbers.tobytes()).decode()
    return json.dumps(packed if as_base64 else numbers.tolist())


def _framed(data: bytes) -> bytes:
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"
