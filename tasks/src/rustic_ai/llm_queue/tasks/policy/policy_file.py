from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic_settings import BaseSettings, TomlConfigSettingsSource

#: The settings that may stand in a policy file; a variable of the environment wins over the file.
POLICY_FIELDS = frozenset(
    {"allowed_endpoints", "allowed_hosts", "allowed_models", "budgets", "cache", "fair_share", "limits",
     "max_body_bytes", "max_n", "max_nesting", "max_output_tokens", "max_running_per_guild", "max_timeout"}
)  # fmt: skip


class PolicyFileError(ValueError):
    """The policy file cannot be used."""


class PolicyFile(TomlConfigSettingsSource):
    """The TOML file named by the setting `policy`: one file for agents and workers.

    Settings that only workers have are passed over on the agents' side. Raises `PolicyFileError`
    when it is called.
    """

    def __init__(self, settings_cls: type[BaseSettings]) -> None:
        # The file's name is itself a setting: it is known only when the sources are called, in turn.
        super().__init__(settings_cls, toml_file=None)

    def __call__(self) -> dict[str, Any]:
        path = self.current_state.get("policy")
        if not path:
            return {}
        given = self._given(Path(path))
        for name in given:
            if name not in POLICY_FIELDS:
                raise PolicyFileError(
                    f"{name!r} is not a policy; there are {', '.join(sorted(POLICY_FIELDS))}"
                )
        return {name: value for name, value in given.items() if name in self.settings_cls.model_fields}

    def _given(self, path: Path) -> dict[str, Any]:
        try:
            return self._read_file(path)
        except OSError as error:
            raise PolicyFileError(f"cannot read {str(path)!r}: {error.strerror}") from None
        except ValueError as error:
            raise PolicyFileError(f"{str(path)!r} is not TOML: {error}") from None
