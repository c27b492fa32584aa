"""What commands list is one line where there is nothing, and whole at 80 columns where there is."""

import json

import pytest

from support.callers.llm import MakeLLM, ask
from support.processes.command import LlmQueue
from support.processes.wait import wait_until
from support.providers.provider import ProviderStub, Step


@pytest.mark.parametrize(
    ("command", "line"),
    [
        ("jobs", "0 jobs queued or running"),
        ("jobs --state running", "0 jobs running"),
        ("dead list", "0 dead jobs"),
        ("dead replay --all", "no job is dead"),
        ("dead drop --all", "no job is dead"),
        ("limits", "0 limits in use"),
        ("budgets list", "0 budgets"),
        ("budgets history", "0 budgets"),
        ("quarantine list", "0 quarantined messages"),
    ],
)
def test_where_there_is_nothing_one_line_says_so(llm_queue: LlmQueue, command: str, line: str) -> None:
    ran = llm_queue(*command.split(), width=80)
    assert (ran.exit_code, ran.out.splitlines(), ran.err) == (0, [line], "")


@pytest.mark.usefixtures("worker")
def test_at_80_columns_nothing_is_cut_or_folded(
    llm_queue: LlmQueue, llm: MakeLLM, provider: ProviderStub
) -> None:
    provider.plan("first", Step(prompt_tokens=123_456, completion_tokens=654_321))
    provider.plan("q", Step(status=429, retry_after_s=300), Step())
    llm("an-organisation", "a-guild-of-its-own", "helper").completion(ask("#first"))
    waiting = llm().submit(ask("#q"))
    wait_until(waiting.waits_for, 10, "it to wait for the provider")
    (row,) = [one for one in json.loads(llm_queue("limits", "--json").out) if one["waiting"]]

    limits = llm_queue("limits", width=80).out.splitlines()
    assert f"{row['name']}  {row['bucket']}" in limits
    assert "  why: 429 rate_limit_exceeded" in limits
    costs = llm_queue("costs", "--by", "org,guild,model", width=80).out
    assert "an-organisation  a-guild-of-its-own  openai/gpt-4o-mini" in costs.splitlines()
    assert "  completion tokens: 654,321" in costs.splitlines()
    assert "total" in costs.splitlines()
    assert max(map(len, costs.splitlines())) <= 80
    top = llm_queue("top", "--once", width=80).out.splitlines()
    assert top[0].endswith(" USD/min")
    assert "normal" in top[3].split(), "the only queue there is, and empty"
    why = llm_queue("jobs", "--why", waiting.id).out
    assert "it waits for ~key_and_model, and takes no place in a worker meanwhile" in why
    assert llm_queue("resume", row["name"]).exit_code == 0
    assert waiting.result(20)
