"""`[[limits]]`: what may stand there, and what an operator is told of a row that cannot be used."""

from pathlib import Path

import pytest

from rustic_ai.llm_queue.tasks.policy.limit_rule import LimitMatch, LimitRule, parse_limits
from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.settings import GUILD_LIMIT, WorkerSettings

EXAMPLE = """
[[limits]]
name = "openai-gpt4"
match = {provider = "openai", model = ["gpt-4*", "openai/o1"]}
per = ["credential"]
rpm = 500
tpm = 200_000
max_parallel_requests = 100

[[limits]]
name = "each-agent"
per = ["org", "guild", "agent"]
itpm = 10_000
otpm = 2_000
oversize = "refuse"
[limits.learn]
headers = "off"
"""


def settings_of(tmp_path: Path, text: str) -> WorkerSettings:
    path = tmp_path / "policy.toml"
    path.write_text(text)
    return WorkerSettings(policy=path)


def test_limits_come_from_the_policy_file(tmp_path: Path) -> None:
    first, second = settings_of(tmp_path, EXAMPLE).limit_rules()
    assert (first.name, first.rpm, first.per, first.match.model) == (
        "openai-gpt4", 500, ("credential",), ("gpt-4*", "openai/o1"),
    )  # fmt: skip
    assert (second.otpm, second.oversize, second.learn.headers) == (2_000, "refuse", "off")


def test_the_guilds_bound_is_short_for_a_limit(tmp_path: Path) -> None:
    rules = settings_of(tmp_path, "max_running_per_guild = 7").limit_rules()
    assert rules == (LimitRule(name=GUILD_LIMIT, per=("org", "guild"), max_parallel_requests=7),)


@pytest.mark.parametrize(
    ("row", "says"),
    [
        ("rpm = 0", r'limits\[0\] "x": rpm must be a whole number from 1 .* not 0; to stop a model'),
        ("rpm = -1", "rpm must be .* not -1"),
        ("tpm = 1.5", "tpm must be .* not 1.5"),
        ("itpm = 'many'", "itpm must be .* not 'many'"),
        ("otpm = true", "otpm must be .* not True"),
        ("max_parallel_requests = 0", "max_parallel_requests must be"),
        ("rpm = 5\nburst = 6", "burst 6 is above rpm 5"),
        ("tpm = 5\nburst = 1", "burst counts requests"),
        ("rpm = 5\nper = ['modle']", "per.0 'modle'"),
        ("rpm = 5\nper = ['org', 'org']", "per names a dimension twice"),
        ("rpm = 5\nrmp = 5", "rmp is not known here; there are name, match"),
        ("rpm = 5\nmatch = {modle = 'x'}", "match.modle is not known here; there are agent"),
        ("rpm = 5\nmatch = {model = ''}", "match.model '' matches nothing"),
        ("rpm = 5\nmatch = {model = []}", "match.model must be a pattern"),
        ("rpm = 5\nmatch = {credential = 'mine'}", "credential 'mine' can never match"),
        ("tpm = 5\nitpm = 5", "give it, or itpm and otpm"),
        ("per = ['org']", "limits nothing"),
        ("rpm = 5\noversize = 'drop'", "oversize 'drop'"),
        ("rpm = 5\ncount = 'most'", "count 'most'"),
        ("rpm = 5\nlearn = {headers = 'yes'}", "learn.headers 'yes'"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_with_its_field(tmp_path: Path, row: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_of(tmp_path, f"[[limits]]\nname = 'x'\n{row}\n")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[[limits]]\nrpm = 1", r"limits\[0\]: name is missing"),
        ("[[limits]]\nname = 'a b'\nrpm = 1", "name 'a b'"),
        ("[[limits]]\nname = 'x'\nrpm = 1\n[[limits]]\nname = 'x'\nrpm = 2", r"limits\[1\] \"x\": there is"),
        ("limits = 5", "limits is a list of tables"),
        ("limits = [5]", r"limits\[0\]"),
    ],
)
def test_rows_that_are_none_are_named(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(SettingsError, match=says):
        settings_of(tmp_path, text)


def test_every_dimension_that_is_named_has_to_match() -> None:
    match = LimitMatch(provider="open*", model=["gpt-4*", "o1"])
    assert match.admits({"provider": ("openai",), "model": ("openai/gpt-4o", "gpt-4o")})
    assert not match.admits({"provider": ("azure",), "model": ("gpt-4o",)})
    assert not match.admits({"provider": ("openai",), "model": ("o3",)})
    assert not LimitMatch(deployment="*").admits({"deployment": ()}), "it has none"


def test_narrow_limits_are_passed_before_wide_ones() -> None:
    names = ["key", "org", "agent", "model", "all"]
    rows = [
        {"name": "key", "per": ["credential"], "rpm": 1},
        {"name": "org", "match": {"org": "acme"}, "rpm": 1},
        {"name": "agent", "per": ["org", "agent"], "rpm": 1},
        {"name": "model", "match": {"provider": "openai", "model": "gpt-*"}, "rpm": 1},
        {"name": "all", "rpm": 1},
    ]
    assert [rule.name for rule in parse_limits(rows)] == names
    ordered = sorted(parse_limits(rows), key=lambda rule: rule.narrowness)
    assert [rule.name for rule in ordered] == ["agent", "org", "model", "key", "all"]
