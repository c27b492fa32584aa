"""The operators' pages: their commands exist and run, their alerts are those of the rules."""

import re
import shlex
from collections.abc import Iterator

import click
import pytest

from rustic_ai.llm_queue.resolver.exceptions import BadRequestError
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.cli.main import commands
from support.callers.llm import MakeLLM, ask
from support.documents.deployment import documents
from support.documents.readme import ROOT
from support.processes.command import LlmQueue
from support.providers.provider import ProviderStub, Step

PAGES = {page.name: page.read_text(encoding="utf-8") for page in sorted((ROOT / "docs").glob("*.md"))}
GUIDE = PAGES["operations.md"]
_SHELL = re.compile(r"```sh\n(.*?)```", re.DOTALL)
_INLINE = re.compile(r"`(llm-queue [^`]+)`")


def commands_of(text: str) -> list[str]:
    """The `llm-queue` command lines of a page, in its blocks and in its sentences."""
    lines = [line for block in _SHELL.findall(text) for line in block.splitlines()]
    whole = [line for line in lines if line.startswith("llm-queue ")]
    return [*whole, *(line.replace("\n", " ") for line in _INLINE.findall(text))]


def named() -> Iterator[tuple[str, str]]:
    for name, text in PAGES.items():
        if name != "commands.md":
            # In a message of the code a placeholder may follow, or the message goes on.
            yield from ((name, line) for line in commands_of(text) if ":" not in line.split()[0])


def check(line: str) -> None:
    """Raises `click.UsageError` for a command or an option that there is not."""
    _, *arguments = shlex.split(line, comments=True)
    command: click.Command = commands
    context = click.Context(commands, **commands.context_settings)
    while isinstance(command, click.Group) and arguments:
        _, found, arguments = command.resolve_command(context, arguments)
        assert found is not None
        command, context = found, click.Context(found, parent=context)
    command.make_parser(context).parse_args(arguments)


@pytest.mark.parametrize(("page", "line"), sorted(set(named())))
def test_a_command_on_a_page_is_one(page: str, line: str) -> None:
    check(line)


def test_a_command_that_is_none_is_found() -> None:
    for line in ("llm-queue dead raise", "llm-queue jobs --colour", "llm-queue nothing"):
        with pytest.raises(click.UsageError):
            check(line)


@pytest.mark.usefixtures("worker")
def test_every_days_commands_run(llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub) -> None:
    (day,) = re.findall(r"^## Every day\n(.*?)^## ", GUIDE, re.MULTILINE | re.DOTALL)
    lines = commands_of(day)
    assert len(lines) > 10
    provider.plan("q", Step(status=400, times=None))
    handle = llm().submit(ask("#q"))
    with pytest.raises(BadRequestError):
        handle.result()
    for line in lines:
        once = ["--once"] if line.split()[1] == "top" else []
        ran = llm_queue(*shlex.split(line.replace("$ID", handle.id), comments=True)[1:], *once)
        # The job had ended when it was to be cancelled; the rest has something to do.
        assert ran.exit_code == (1 if line.startswith("llm-queue cancel") else 0), (line, ran)
        if " replay " in line:
            with pytest.raises(BadRequestError):
                handle.result()


def test_every_alert_has_its_remedy() -> None:
    rules = documents("prometheus/alerts.yml")[0]["groups"][0]["rules"]
    assert re.findall(r"`(LlmQueue\w+)`", GUIDE) == [rule["alert"] for rule in rules]


@pytest.mark.parametrize("url", re.findall(r"`((?:rediss|sentinel|rediss\+cluster)://[^`]+)`", GUIDE))
def test_a_url_of_redis_is_one(url: str) -> None:
    QueueSettings(redis_url=url)
