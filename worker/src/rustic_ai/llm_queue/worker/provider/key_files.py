"""Providers' keys out of files, into the environment, where LiteLLM looks for them.

A variable's value is shown by `docker inspect` and by every tool like it; the name of a file is all that
these may show.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from io import StringIO
from pathlib import Path

from dotenv import dotenv_values

from rustic_ai.llm_queue.tasks.names import ENV_PREFIX
from rustic_ai.llm_queue.tasks.privacy.secret_file import WrongSetting, read_secret
from rustic_ai.llm_queue.tasks.settings import SettingsError

_ONE_KEY = re.compile(r"([A-Z][A-Z0-9_]*_API_KEY)_FILE")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")


def read_provider_keys(keys_file: Path | None) -> None:
    """Put providers' variables into this process's environment, except those that it has already.

    They come from `…_API_KEY_FILE` variables (`OPENAI_API_KEY_FILE=/run/secrets/openai` stands for
    `OPENAI_API_KEY`) and from `keys_file`, a file of `NAME=value` lines. Raises `SettingsError` naming the
    variable when a file cannot be used; no message quotes what is in it.
    """
    found = {**_keys_of(keys_file), **_single_keys(os.environ)}
    for name, value in found.items():
        if not os.environ.get(name):
            os.environ[name] = value


def _single_keys(environment: Mapping[str, str]) -> dict[str, str]:
    found = {}
    for variable, path in environment.items():
        if path and (match := _ONE_KEY.fullmatch(variable)):
            try:
                found[match[1]] = read_secret(variable, Path(path))
            except WrongSetting as error:
                raise SettingsError(f"{variable}: {error}") from None
    return found


def _keys_of(path: Path | None) -> dict[str, str]:
    if path is None:
        return {}
    variable = f"{ENV_PREFIX}PROVIDER_KEYS_FILE"
    try:
        text = read_secret("provider_keys_file", path)
    except WrongSetting as error:
        raise SettingsError(f"{variable}: {error}") from None
    found = {}
    # A dollar sign in a key is a dollar sign.
    for name, value in dotenv_values(stream=StringIO(text), interpolate=False).items():
        if value is None or not _NAME.fullmatch(name):
            raise SettingsError(f"{variable}: a line of {str(path)!r} is not NAME=value")
        if name.startswith(ENV_PREFIX):
            raise SettingsError(f"{variable}: {name} is no provider's; set it in the environment")
        found[name] = value
    return found
