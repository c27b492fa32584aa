from __future__ import annotations

import getpass
import json
import sys
from typing import Any

import click

from .command_failed import Interrupted, failures

#: Whose jobs these are, in logs and books.
_ORG, _GUILD = "shell", "llm-queue"


@click.command()
@click.argument("question")
@click.option("-m", "--model", envvar="LLM_QUEUE_MODEL", required=True, show_envvar=True,
              help="A LiteLLM model name, such as openai/gpt-4o-mini.")  # fmt: skip
@click.option("-s", "--system", help="A system message before the question.")
@click.option("--fallback", "fallbacks", multiple=True, help="A model to ask when the first one fails.")
@click.option("--temperature", type=float)
@click.option("--max-tokens", type=click.IntRange(min=1))
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), default=120.0, show_default=True,
              help="Seconds, for everything.")  # fmt: skip
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs, when the answer is whole.")
def ask(
    question: str,
    model: str,
    system: str | None,
    fallbacks: tuple[str, ...],
    temperature: float | None,
    max_tokens: int | None,
    timeout: float,
    as_json: bool,
) -> None:
    """Ask one question through the queue, and print the answer as it comes.

    A QUESTION of `-` is read from standard input. What it took goes to standard error. Ctrl-C
    cancels the job, so that nobody pays for the rest.
    """
    with failures():
        from rustic_ai.core.guild.agent_ext.depends.llm.models import (
            ChatCompletionRequest,
            SystemMessage,
            UserMessage,
        )

        from ..resolver import QueueLLMResolver

        text = sys.stdin.read() if question == "-" else question
        if not text.strip():
            raise click.UsageError("the question is empty")
        resolver = QueueLLMResolver(
            model=model,
            fallback_models=list(fallbacks),
            temperature=temperature,
            top_p=None,
            max_tokens=max_tokens,
            timeout=timeout,
        )
        llm = resolver.resolve(_ORG, _GUILD, user())
        system_messages = [SystemMessage(content=system)] if system else []
        request = ChatCompletionRequest(messages=[*system_messages, UserMessage(content=text)])
        try:
            response = llm.completion(request) if as_json else _stream(llm, request)
        except KeyboardInterrupt:
            raise Interrupted("cancelled") from None
    if as_json:
        told = response.model_dump(mode="json", exclude={"input_messages"}, exclude_none=True)
        click.echo(json.dumps(told, ensure_ascii=False, indent=2))
    else:
        click.echo(_bill(response), err=True)


def _stream(llm: Any, request: Any) -> Any:
    """Print the answer's text as it comes. Leaving the stream early cancels the job."""
    terminal = sys.stdout.isatty()
    with llm.stream(request, on_restart=lambda _: click.echo("\n[begins anew]", err=True)) as stream:
        for chunk in stream:
            if chunk.text:
                click.echo(_harmless(chunk.text) if terminal else chunk.text, nl=False)
        click.echo()
        return stream.response


def _harmless(text: str) -> str:
    """A model's words without what would steer the terminal."""
    return "".join(one for one in text if one.isprintable() or one in "\n\t")


def _bill(response: Any) -> str:
    usage, tries = response.usage, len(response.attempts)
    tokens = f"{usage.prompt_tokens}+{usage.completion_tokens} tokens, " if usage else ""
    cost = "no price known" if response.cost_usd is None else f"{response.cost_usd:.12f}".rstrip("0") + " USD"
    return f"[{response.model}: {tokens}{cost}, {response.run_time_s:.1f} s, attempts {tries}]"


def user() -> str:
    """Who sits at this shell."""
    try:
        return getpass.getuser()
    except OSError:
        return "unknown"  # a container's user without a name
