from __future__ import annotations

from collections.abc import Sequence

from ..exceptions import InvalidRequest


def checked_texts(texts: object, *, field: str) -> list[str]:
    """The texts, if they are a list of texts with something in each. Raises `InvalidRequest`."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise InvalidRequest(
            f"{field}: got a {type(texts).__name__}; give a list of texts (embed_query takes a single one)"
        )
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise InvalidRequest(f"{field}[{index}]: got a {type(text).__name__}; give a text")
        if not text:
            raise InvalidRequest(f"{field}[{index}]: an empty text has no embedding; leave it out")
        if not text.isascii():
            _check_unicode(text, f"{field}[{index}]")
    return list(texts)


def _check_unicode(text: str, field: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InvalidRequest(
            f"{field}: not valid Unicode text (a lone surrogate at character {error.start}); "
            "decode the source with the right codec"
        ) from None
