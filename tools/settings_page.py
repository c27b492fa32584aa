"""Writes docs/settings.md from the settings classes: `make docs`."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic_settings import BaseSettings

from field_comments import field_groups
from rustic_ai.llm_queue.tasks.names import ENV_PREFIX
from rustic_ai.llm_queue.tasks.settings import QueueSettings
from rustic_ai.llm_queue.worker.flower_app.settings import FlowerSettings
from rustic_ai.llm_queue.worker.settings import WorkerSettings

PAGE = Path(__file__).parents[1] / "docs" / "settings.md"
_HEAD = """# Settings

Variables of the environment. Durations take `30`, `30s`, `500ms`, `5m`, `1h`, `1d`; a bare number is in
seconds. A value that cannot be used ends the start with an error that names the variable.

This page is written by `make docs` from the settings' own classes.
"""
_TABLE = "| Variable | Default | Meaning |\n|---|---|---|\n"
SECTIONS = {"Agents and workers": QueueSettings, "Workers": WorkerSettings, "Flower": FlowerSettings}
#: Largest first, so that a duration is written in the largest unit that divides it.
_UNITS = (("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1))


def page() -> str:
    """The page's text."""
    parts = [_HEAD]
    for title, settings in SECTIONS.items():
        parts.append(f"\n## {title}\n\n{_TABLE}{''.join(_rows(settings))}")
    return "".join(parts)


def _rows(settings: type[BaseSettings]) -> Iterator[str]:
    for names, meaning in field_groups(settings):
        fields = [settings.model_fields[name] for name in names]
        variables = "<br>".join(f"`{ENV_PREFIX}{name.upper()}`" for name in names)
        defaults = "<br>".join(_default(field.get_default(call_default_factory=True)) for field in fields)
        yield f"| {variables} | {defaults} | {_with_variables(meaning, settings)} |\n"


def _with_variables(meaning: str, settings: type[BaseSettings]) -> str:
    """Comments speak of fields, the page's readers know variables."""
    for name in settings.model_fields:
        meaning = meaning.replace(f"`{name}`", f"`{ENV_PREFIX}{name.upper()}`")
    return meaning.replace("|", "\\|")


def _default(value: Any) -> str:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, timedelta):
        return f"`{_duration(value)}`"
    if isinstance(value, BaseModel):
        return "; ".join(f"{name} {_default(one)}" for name, one in value)
    if isinstance(value, tuple):
        value = ",".join(map(str, value))
    return "none" if value is None or value == "" else f"`{value}`"


def _duration(value: timedelta) -> str:
    milliseconds = round(value.total_seconds() * 1000)
    unit, size = next((unit, size) for unit, size in _UNITS if milliseconds % size == 0)
    return f"{milliseconds // size}{unit}"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
