from __future__ import annotations

from typing import Any

from rustic_ai.core.ui_protocol.types import TextFormat, UpdateType

from ..chunk import ChatCompletionChunk

#: Rustic's UI joins messages of this format that have one `updateId`.
UPDATE_FORMAT = "updateTextFormat"


class TextUpdates:
    """The messages from which Rustic's UI puts one text together.

    A guild's messages lose the white space at the ends of their texts (core's `Message` strips it), and
    words would run together: so an update ends within a word, and the rest of it goes with the next.
    """

    def __init__(self, update_id: str) -> None:
        self._id = update_id
        self._waiting = ""
        self._type: UpdateType | None = None

    def add(self, chunk: ChatCompletionChunk) -> dict[str, Any] | None:
        """The update that is due with a chunk, if one is."""
        if chunk.restarted:
            self._waiting = ""
            if self._type is not None:
                self._type = UpdateType.REPLACE
        self._waiting += chunk.text
        return self._update(_within_last_word(self._waiting))

    def end(self) -> dict[str, Any] | None:
        """The last update, if anything is left."""
        return self._update(len(self._waiting))

    def _update(self, length: int) -> dict[str, Any] | None:
        text, self._waiting = self._waiting[:length], self._waiting[length:]
        if not text or text.isspace():
            self._waiting = text + self._waiting
            return None
        update = TextFormat(text=text, update_id=self._id, update_type=self._type)
        self._type = UpdateType.APPEND
        return update.model_dump(mode="json", exclude_none=True)


def _within_last_word(text: str) -> int:
    """The last place with no white space on either side; 0 when there is none."""
    for at in range(len(text) - 1, 0, -1):
        if not (text[at].isspace() or text[at - 1].isspace()):
            return at
    return 0
