from __future__ import annotations

import sys
from typing import Any

import click
from rustic_ai.core.guild.agent_ext.depends.llm.models import (
    ChatCompletionRequest,
    SystemMessage,
    UserMessage,
)

from rustic_ai.llm_queue.tasks.privacy.printable import OF_PROSE, printable, printable_json

from ..llm import QueueLLM
from ..resolver import QueueLLMResolver
from ..response import QueueChatCompletionResponse
from .command_failed import Interrupted
from .failures import failures
from .shell_user import GUILD, ORG, user


def ask_question(text: str, properties: dict[str, Any], *, system: str | None, as_json: bool) -> None:
    """Ask, and print the answer. Raises click's exceptions, `CommandFailed` among them."""
    with failures():
        llm = QueueLLMResolver(**properties).resolve(ORG, GUILD, user())
        system_messages = [SystemMessage(content=system)] if system else []
        request = ChatCompletionRequest(messages=[*system_messages, UserMessage(content=text)])
        try:
            response = llm.completion(request) if as_json else _stream(llm, request)
        except KeyboardInterrupt:
            raise Interrupted("cancelled") from None
    if as_json:
        shown = response.model_dump(mode="json", exclude={"input_messages"}, exclude_none=True)
        click.echo(printable_json(shown))
    else:
        click.echo(printable(_bill(response)), err=True)


def _stream(llm: QueueLLM, request: ChatCompletionRequest) -> QueueChatCompletionResponse:
    """Print the answer's text as it comes. Leaving the stream early cancels the job."""
    terminal = sys.stdout.isatty()
    with llm.stream(request, on_restart=lambda _: click.echo("\n[begins anew]", err=True)) as stream:
        for chunk in stream:
            if chunk.text:
                click.echo(printable(chunk.text, keep=OF_PROSE) if terminal else chunk.text, nl=False)
        click.echo()
        return stream.response


def _bill(response: QueueChatCompletionResponse) -> str:
    usage, tries = response.usage, len(response.attempts)
    tokens = f"{usage.prompt_tokens}+{usage.completion_tokens} tokens, " if usage else ""
    cost = "no price known" if response.cost_usd is None else f"{response.cost_usd:.12f}".rstrip("0") + " USD"
    return f"[{response.model}: {tokens}{cost}, {response.run_time_s:.1f} s, attempts {tries}]"
