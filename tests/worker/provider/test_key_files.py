"""Providers' keys that a worker is given as files."""

import os
from pathlib import Path

import pytest

from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.provider.key_files import read_provider_keys

MANY = """
# A comment
OPENAI_API_KEY=sk-$HOME#1
export ANTHROPIC_API_KEY='sk-ant 2'
AZURE_API_BASE="https://azure.test/"
"""


@pytest.fixture(autouse=True)
def environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """None of these is set before, and none afterwards."""
    for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "AZURE_API_BASE"):
        monkeypatch.setenv(name, "")


def test_each_line_of_the_file_is_a_variable(tmp_path: Path) -> None:
    (tmp_path / "keys").write_text(MANY)
    read_provider_keys(tmp_path / "keys")
    assert os.environ["OPENAI_API_KEY"] == "sk-$HOME#1"
    assert os.environ["ANTHROPIC_API_KEY"] == "sk-ant 2"
    assert os.environ["AZURE_API_BASE"] == "https://azure.test/"


def test_one_key_may_have_a_file_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "one").write_text("sk-$(id)\n")
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "one"))
    read_provider_keys(None)
    assert os.environ["OPENAI_API_KEY"] == "sk-$(id)"


def test_the_environment_goes_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "keys").write_text(MANY)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-here")
    read_provider_keys(tmp_path / "keys")
    assert os.environ["OPENAI_API_KEY"] == "sk-here"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("OPENAI_API_KEY\n", "is not NAME=value"),
        ("9=sk-secret\n", "is not NAME=value"),
        ("LLM_QUEUE_CONCURRENCY=9\n", "LLM_QUEUE_CONCURRENCY is no provider's; set it in the environment"),
        ("", "is empty"),
    ],
)
def test_a_file_that_cannot_be_used_is_named_and_not_quoted(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "keys").write_text(text)
    with pytest.raises(SettingsError, match=r"^LLM_QUEUE_PROVIDER_KEYS_FILE: ") as raised:
        read_provider_keys(tmp_path / "keys")
    assert says in str(raised.value)
    assert "sk-secret" not in str(raised.value)


def test_a_file_that_is_missing_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY_FILE", str(tmp_path / "missing"))
    with pytest.raises(SettingsError, match=r"^OPENAI_API_KEY_FILE: cannot read '.*missing'"):
        read_provider_keys(None)
