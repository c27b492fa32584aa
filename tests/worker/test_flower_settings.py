"""How Flower is let in to: settings, the password, and what its options may not undo."""

import re
from pathlib import Path

import httpx
import pytest
from click.testing import CliRunner

from rustic_ai.llm_queue.tasks.settings import SettingsError
from rustic_ai.llm_queue.worker.cli.main import commands
from rustic_ai.llm_queue.worker.flower_app.job_task import JobTask
from rustic_ai.llm_queue.worker.flower_app.settings import FlowerSettings
from support.servers.flower import FlowerProcess
from support.servers.valkey import ValkeyServer

PASSWORD = "kept-out-of-sight-5521"
LONG = "operator:a-long-password"


def test_nothing_is_listened_to_beyond_this_machine_unless_it_is_asked_for() -> None:
    assert FlowerSettings().flower_address == "127.0.0.1"


@pytest.mark.parametrize(
    "auth", ["operator", "operator:", ":a-long-password", "operator:short", "opé:a-long-password"]
)
def test_a_password_that_is_none_is_refused(auth: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_QUEUE_FLOWER_AUTH", auth)
    with pytest.raises(SettingsError, match="LLM_QUEUE_FLOWER_AUTH: ") as caught:
        FlowerSettings()
    assert "a-long-password" not in str(caught.value)


def test_the_password_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "auth"
    path.write_text(f"{LONG}\n")
    monkeypatch.setenv("LLM_QUEUE_FLOWER_AUTH_FILE", str(path))
    assert FlowerSettings().basic_auth() == LONG
    path.write_text("\n")
    with pytest.raises(SettingsError, match=r"LLM_QUEUE_FLOWER_AUTH_FILE: .*is empty"):
        FlowerSettings()
    path.unlink()
    with pytest.raises(SettingsError, match="No such file"):
        FlowerSettings()


@pytest.mark.parametrize(
    "option",
    [
        "--basic_auth=a:b",
        "--basic-auth=a:b",
        "--conf=/tmp/x.py",
        "--persistent",
        "--address=0.0.0.0",
        "--unknown",
    ],
)
def test_options_that_would_open_another_way_in_are_refused(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLM_QUEUE_FLOWER_AUTH", LONG)
    # `--address` alone is our own option, and a safe one.
    arguments = ["flower", "--port", "0", "--", option]
    result = CliRunner().invoke(commands, arguments)
    assert isinstance(result.exception, SettingsError), result.output


def test_a_made_up_password_is_shown_once_and_redis_password_never(tmp_path: Path) -> None:
    with (
        ValkeyServer(acl=["user default off", f"user flower on >{PASSWORD} ~* &* +@all"]) as server,
        FlowerProcess(
            {
                "LLM_QUEUE_REDIS_URL": server.url_for("flower", PASSWORD),
                "LLM_QUEUE_FLOWER_AUTH": None,
                "FLOWER_UNAUTHENTICATED_API": "true",
            },
            log_path=tmp_path / "flower.log",
        ) as flower,
    ):
        (made_up,) = re.findall(r"until it stops: operator:(\S+)", flower.logs())
        with httpx.Client(base_url=flower.url, timeout=10) as stranger:
            assert stranger.get("/api/tasks").status_code == 401
        with httpx.Client(base_url=flower.url, auth=("operator", made_up), timeout=10) as operator:
            queues = operator.get("/api/queues/length")
            assert queues.json() == {"active_queues": [{"name": "llm", "messages": 0}]}
            shown = [operator.get(path).text for path in flower.readable_paths("x")]
        shown.append(flower.logs())
        assert not [text for text in shown if PASSWORD in text]
        assert flower.logs().count(made_up) == 1


def test_events_that_no_job_of_ours_sent_are_shown_as_they_are() -> None:
    task = JobTask(uuid="x")
    task.event("received", 1.0, 1.0, {"args": "(1, 2)", "name": "someone.elses"})
    task.event("succeeded", 2.0, 2.0, {"result": "3", "account": "not a dictionary"})
    assert task.state == "SUCCESS"
    assert task.model is None
    assert task.args == "(1, 2)"


@pytest.mark.timeout(20)
@pytest.mark.parametrize("length", [3_990, 50_000])
def test_a_description_made_to_be_slow_is_read_at_once(length: int) -> None:
    task = JobTask(uuid="x")
    piece = " org= guild= agent="
    hostile = ("model=" + piece * (length // len(piece)))[:length]
    for end in ("", " ~tokens=x", " ~tokens=1"):
        task.event("received", 1.0, 1.0, {"args": hostile + end, "name": "run_job"})
    assert task.estimated_tokens in (None, 1)


@pytest.mark.parametrize(
    ("description", "model", "guild"),
    [
        ("model=a org=b org=c org=o guild=g agent=a ~tokens=1", "a org=b org=c", "g"),
        ("kind=embedding texts=3 model=m org=o guild=g agent=a ~tokens=1", "m", "g"),
        ("nonsense model=m org=o guild=g agent=a ~tokens=1", None, None),
        ("model=m org=o agent=a guild=g ~tokens=1", None, None),
        ("model=m org=o guild=g agent=a ~tokens=\N{ARABIC-INDIC DIGIT ONE}", None, None),
    ],
)
def test_a_description_is_read_from_its_end(description: str, model: str | None, guild: str | None) -> None:
    task = JobTask(uuid="x")
    task.event("received", 1.0, 1.0, {"args": description, "name": "run_job"})
    assert (task.model, task.guild) == (model, guild)


def test_a_start_that_is_told_of_before_the_arrival_keeps_the_owner() -> None:
    task = JobTask(uuid="x")
    task.event("started", 2.0, 2.0, {})
    arguments = "model=openai/gpt-4o org=acme guild=my guild agent=helper ~tokens=12"
    task.event("received", 1.0, 1.0, {"args": arguments, "name": "run_job"})
    assert (task.state, task.guild, task.estimated_tokens) == ("STARTED", "my guild", 12)


def test_an_embedding_job_shows_its_texts() -> None:
    task = JobTask(uuid="x")
    arguments = "kind=embedding texts=100 model=text-embedding-3-small org=o guild=g agent=a ~tokens=12"
    task.event("received", 1.0, 1.0, {"args": arguments, "name": "run_job"})
    assert (task.kind, task.texts, task.model) == ("embedding", 100, "text-embedding-3-small")
