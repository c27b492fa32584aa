"""A chat in the terminal, streamed through the queue: `python examples/chat.py --model openai/gpt-4o-mini`.

Ctrl-C stops an answer, and the provider's call with it; at the prompt, Ctrl-C or Ctrl-D ends the chat.
"""

from __future__ import annotations

import argparse
import sys

from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    AssistantMessage,
    ChatCompletionRequest,
    LLMMessage,
    SystemMessage,
    UserMessage,
)

from rustic_ai.llm_queue.resolver import QueueError, QueueLLM, QueueLLMResolver, Restarted


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="openai/gpt-4o-mini")
    parser.add_argument("--system", default="You are a helpful assistant. Answer briefly.")
    options = parser.parse_args()
    llm = QueueLLMResolver(model=options.model).resolve("examples", "chat", "chatter")
    history: list[LLMMessage] = [SystemMessage(content=options.system)]
    while True:
        try:
            text = input("you> ").strip()
        except (EOFError, KeyboardInterrupt):
            print()
            return 0
        if text:
            _turn(llm, history, text)


def _turn(llm: QueueLLM, history: list[LLMMessage], text: str) -> None:
    """One question and its answer; `history` grows by both, or by neither."""
    question = UserMessage(content=text)
    try:
        # Leaving the stream early cancels the job.
        with llm.stream(ChatCompletionRequest(messages=[*history, question]), on_restart=_anew) as stream:
            for chunk in stream:
                print(_harmless(chunk.text), end="", flush=True)
        print()
        history += [question, AssistantMessage(content=stream.text)]
    except KeyboardInterrupt:
        print("\n[cancelled]")
    except QueueError as error:
        print(f"\n[{error}]")


def _anew(restarted: Restarted) -> None:
    print("\n[begins anew]")


def _harmless(text: str) -> str:
    """A model's words without what would steer the terminal."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


if __name__ == "__main__":
    sys.exit(main())
