"""What the README and the pages in docs/ say, held against the code."""

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest
from rustic_ai.core.guild.agent_ext.depends.llm.models import ChatCompletionResponse

from rustic_ai.llm_queue import resolver
from rustic_ai.llm_queue.resolver import Properties, QueueChatCompletionResponse, QueueError
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.worker.flower_app.settings import FlowerSettings
from rustic_ai.llm_queue.worker.provider.targets.key_variables import KEY_VARIABLES
from rustic_ai.llm_queue.worker.settings import WorkerSettings
from support.documents.readme import GUIDE, ROOT, codes, table

PROPERTIES = (ROOT / "docs" / "properties.md").read_text(encoding="utf-8")
ERRORS = (ROOT / "docs" / "errors.md").read_text(encoding="utf-8")
_AT_THE_ROOT = [ROOT / f"{name}.md" for name in ("README", "SECURITY", "CONTRIBUTING", "CHANGELOG")]
PAGES = [*_AT_THE_ROOT, *sorted((ROOT / "docs").glob("*.md"))]


def test_the_page_of_properties_names_each_with_its_meaning() -> None:
    rows = re.findall(r"^\| `(\w+)` \|[^|]+\| (.*?) \| (.*?) \|$", PROPERTIES, re.MULTILINE)
    shown = {name for name, meaning, value in rows if meaning and value}
    ignored = {name for name, field in Properties.model_fields.items() if field.exclude}
    assert shown >= set(Properties.model_fields) - ignored
    (sentence,) = re.findall(r"^Accepted without effect.*$", PROPERTIES, re.MULTILINE)
    assert set(codes(sentence)) == ignored


def test_the_page_of_errors_names_every_exception() -> None:
    shown = {codes(row)[index] for row in ERRORS.splitlines() for index in (0, 1) if row.startswith("| `")}
    errors = {
        name
        for name in resolver.__all__
        if isinstance(one := getattr(resolver, name), type) and issubclass(one, QueueError)
    }
    assert shown >= errors - {"QueueError"}
    assert shown >= set(ErrorKind)


def test_the_table_of_an_answers_fields_is_whole() -> None:
    said = {name for cells in table("Field", GUIDE) for name in codes(cells[0])}
    assert said == set(QueueChatCompletionResponse.model_fields) - set(ChatCompletionResponse.model_fields)


def test_the_readme_is_short() -> None:
    """A stranger reads it in three minutes; what is longer has a page of its own."""
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 170


@pytest.mark.parametrize("name", ["settings_page", "properties_page", "errors_page", "commands_page"])
def test_a_written_page_is_up_to_date(name: str) -> None:
    written = _module(ROOT / "tools" / f"{name}.py")
    assert written.PAGE.read_text(encoding="utf-8") == written.page(), "run `make docs`"


def test_the_settings_page_is_whole() -> None:
    page = _module(ROOT / "tools" / "settings_page.py").page()
    named = re.findall(r"LLM_QUEUE_(\w+)", "".join(re.findall(r"^\| (.*?) \|", page, re.MULTILINE)))
    assert named == [name.upper() for name in (WorkerSettings.model_fields | FlowerSettings.model_fields)]
    assert " |  |" not in page


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_what_a_page_names_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    names = WorkerSettings.model_fields | FlowerSettings.model_fields
    # One is no setting of a process: the model that `llm-queue ask` asks.
    settings = {f"LLM_QUEUE_{name.upper()}" for name in names} | {"LLM_QUEUE_MODEL"}
    assert set(re.findall(r"LLM_QUEUE_[A-Z_]+[A-Z]", text)) <= settings
    keys = {name for names in KEY_VARIABLES.values() for name in names}
    assert set(re.findall(r"\b[A-Z]+_API_KEY\b", text)) <= keys
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    assert set(re.findall(r"(?:`|^)make ([a-z-]+)", text, re.MULTILINE)) <= targets
    for link, anchor in re.findall(r"\]\(([^)#]*)#?([^)]*)\)", text):
        target = page.parent / link if link else page
        assert link.startswith("https://") or target.exists(), link
        assert not anchor or anchor in _anchors(target), f"{link}#{anchor}"


def test_every_defence_names_a_test_that_is_there() -> None:
    rows = [line for line in (ROOT / "SECURITY.md").read_text().splitlines() if line.startswith("| ")][1:]
    for row in rows:
        proofs = codes(row.strip("| ").rsplit(" | ", 1)[1])
        assert proofs, row
        for proof in proofs:
            path, _, name = proof.partition("::")
            assert (ROOT / path).exists(), proof
            if name:
                assert f"def {name}(" in (ROOT / path).read_text(), proof


def _anchors(page: Path) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def _module(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module
