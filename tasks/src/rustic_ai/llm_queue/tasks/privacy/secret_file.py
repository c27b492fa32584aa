from __future__ import annotations

from pathlib import Path

_MOST_BYTES = 64_000


class WrongSetting(ValueError):
    """A value that cannot be used, of a setting that pydantic by itself would not name.

    Args:
        field: the setting's name.
    """

    def __init__(self, field: str, message: str) -> None:
        super().__init__(message)
        self.field = field


def read_secret(field: str, path: Path) -> str:
    """The secret in the file that the setting `field` names, without the blanks around it.

    Raises `WrongSetting`, whose message names the file and quotes nothing that is in it.
    """
    try:
        with path.open("rb") as file:
            text = file.read(_MOST_BYTES + 1).decode("utf-8-sig").strip()
    except OSError as error:
        raise WrongSetting(field, f"cannot read {str(path)!r}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise WrongSetting(field, f"{str(path)!r} is not text in UTF-8") from None
    if not text:
        # An empty secret must not turn into a default that nobody meant.
        raise WrongSetting(field, f"{str(path)!r} is empty")
    if len(text) > _MOST_BYTES:
        raise WrongSetting(field, f"{str(path)!r} is larger than {_MOST_BYTES // 1000} kB")
    return text
