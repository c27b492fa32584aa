from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

from rustic_ai.llm_queue.tasks.names import ENV_PREFIX
from rustic_ai.llm_queue.tasks.settings import SettingsError

VARIABLE = f"{ENV_PREFIX}LITELLM_CONFIG"
_INCLUDE = "include"
#: The sections of LiteLLM's config that a worker uses.
SECTIONS = frozenset({"model_list", "credential_list", "environment_variables", "router_settings", _INCLUDE})
_MOST_FILES = 100


def read_document(path: Path) -> dict[str, Any]:
    """LiteLLM's config, joined with the files that it includes as LiteLLM joins them: lists one after the
    other, of everything else the later one.

    Raises `SettingsError` naming the variable and what is wrong, a section that no worker uses among it.
    """
    document: dict[str, Any] = {}
    read: set[Path] = set()
    waiting = [path]
    while waiting:
        file = waiting.pop(0).resolve()
        if file in read:
            continue
        read.add(file)
        if len(read) > _MOST_FILES:
            raise SettingsError(f"{VARIABLE}: {str(path)!r} includes more than {_MOST_FILES} files")
        loaded = _load(file)
        waiting += _includes(loaded, file)
        for name, value in loaded.items():
            before = document.get(name)
            joins = isinstance(before, list) and isinstance(value, list)
            document[name] = before + value if joins else value
    return document


def _load(path: Path) -> dict[str, Any]:
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise SettingsError(f"{VARIABLE}: cannot read {str(path)!r}: {reason}") from None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        where = getattr(error, "problem_mark", None)
        # The error's own text quotes the line, which may hold a key.
        raise SettingsError(f"{VARIABLE}: {str(path)!r} is not YAML{_line(where)}") from None
    if not isinstance(document, dict):
        raise SettingsError(f"{VARIABLE}: {str(path)!r} is not a mapping with a model_list")
    if unknown := [name for name in document if name not in SECTIONS]:
        raise SettingsError(
            f"{VARIABLE}: {str(path)!r} has the section {str(unknown[0])[:100]!r}, which no worker uses: "
            f"take it out, or keep the models in a file of their own. Used are {', '.join(sorted(SECTIONS))}"
        )
    return document


def _includes(document: dict[str, Any], path: Path) -> list[Path]:
    files = document.pop(_INCLUDE, None) or []
    if not isinstance(files, list) or not all(isinstance(file, str) for file in files):
        raise SettingsError(f"{VARIABLE}: include in {str(path)!r} is not a list of files")
    return [path.parent / file for file in files]


def _line(mark: Any) -> str:
    return f" (line {mark.line + 1})" if mark is not None else ""
