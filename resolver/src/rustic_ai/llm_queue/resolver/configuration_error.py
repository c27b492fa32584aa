from __future__ import annotations


class ConfigurationError(ValueError):
    """Properties that cannot be used. The message names each field, its value and the remedy."""


class WrongSetting(ConfigurationError):
    """A variable of the process's environment cannot be used."""
