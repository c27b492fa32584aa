from __future__ import annotations

import sys

import click

from .priority_option import priority_option


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
@priority_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs, when the answer is whole.")
def ask(
    question: str,
    model: str,
    system: str | None,
    fallbacks: tuple[str, ...],
    temperature: float | None,
    max_tokens: int | None,
    timeout: float,
    priority: str,
    as_json: bool,
) -> None:
    """Ask one question through the queue, and print the answer as it comes.

    A QUESTION of `-` is read from standard input. What it took goes to standard error. Ctrl-C
    cancels the job, so that nobody pays for the rest.
    """
    # Here, because it brings Rustic and openai with it, which `llm-queue --help` does not need.
    from .ask_question import ask_question

    text = sys.stdin.read() if question == "-" else question
    if not text.strip():
        raise click.UsageError("the question is empty")
    properties = {
        "model": model,
        "fallback_models": list(fallbacks),
        "temperature": temperature,
        "top_p": None,
        "max_tokens": max_tokens,
        "timeout": timeout,
        "priority": priority,
    }
    ask_question(text, properties, system=system, as_json=as_json)
