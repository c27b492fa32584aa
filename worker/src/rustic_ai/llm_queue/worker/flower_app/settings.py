from __future__ import annotations

from pathlib import Path
from typing import Self

from pydantic import Field, SecretStr, model_validator

from rustic_ai.llm_queue.tasks.privacy.secret_file import WrongSetting, read_secret
from rustic_ai.llm_queue.tasks.settings import QueueSettings

LEAST_PASSWORD_LENGTH = 12


class FlowerSettings(QueueSettings):
    """What only Flower needs to know, from the environment with the prefix `LLM_QUEUE_`.

    Raises `SettingsError` naming the variable when a value cannot be used.
    """

    #: `user:password`, the password of 12 characters or more. Empty: one is made up and shown at the start.
    flower_auth: SecretStr = SecretStr("")
    #: The same from a file, read when `flower_auth` is empty.
    flower_auth_file: Path | None = None
    #: Where Flower listens. Beyond this machine, put TLS in front of it.
    flower_address: str = "127.0.0.1"
    flower_port: int = Field(default=5555, ge=0, le=65_535)

    @model_validator(mode="after")
    def _auth_parses(self) -> Self:
        self.basic_auth()
        return self

    def basic_auth(self) -> str | None:
        """`user:password`, None when none is set. Raises `ValueError` that says what is wrong with it."""
        text = self.flower_auth.get_secret_value()
        if not text and self.flower_auth_file is not None:
            text = read_secret("flower_auth_file", self.flower_auth_file)
        if not text:
            return None
        user, colon, password = text.partition(":")
        # HTTP's basic authentication is only sure to carry ASCII.
        if not (user and colon and text.isascii() and text.isprintable()):
            raise WrongSetting("flower_auth", "it is not user:password in printable ASCII")
        if len(password) < LEAST_PASSWORD_LENGTH:
            raise WrongSetting(
                "flower_auth", f"it has a password of less than {LEAST_PASSWORD_LENGTH} characters"
            )
        return text
