from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(slots=True)
class _Call:
    id: str | None = None
    name: str = ""
    has_arguments: bool = False


class ToolCallNumbers:
    """Tells the calls of tools in one choice of a stream apart, and numbers them.

    Some providers send every call at index 0, and only its id, or its name, says that it is another one.
    """

    def __init__(self) -> None:
        self._calls: list[_Call] = []
        #: The number of the latest call at each index of the provider's; None is "no index".
        self._latest: dict[int | None, int] = {}

    def placed(self, piece: Mapping[str, Any]) -> dict[str, Any]:
        """One piece of a call with its call's number as the index, and a repeated name left out."""
        index = piece.get("index")
        function = dict(piece.get("function") or {})
        call_id, name = piece.get("id") or None, function.get("name") or None
        number = self._latest.get(index)
        if number is None or self._begins(self._calls[number], index, call_id, name):
            number = self._latest[index] = len(self._calls)
            self._calls.append(_Call())
        call = self._calls[number]
        call.id = call.id or call_id
        if name is not None and name == call.name:
            del function["name"]
        else:
            call.name += name or ""
        call.has_arguments = call.has_arguments or bool(function.get("arguments"))
        placed = {**piece, "index": number}
        if function or "function" in piece:
            placed["function"] = function
        return placed

    def _begins(self, call: _Call, index: int | None, call_id: str | None, name: str | None) -> bool:
        if call_id is not None and call.id is not None:
            return call_id != call.id
        if name is None:
            return False
        # Without an index, every name begins a call; with one, a name may also come in pieces.
        return index is None or (call.has_arguments and name != call.name)
