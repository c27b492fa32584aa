from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx

from ..answers.openai_form import mend_openai_form


class EventStream:
    """The events of one answer in OpenAI's form, each a JSON object."""

    def __init__(
        self, events: AsyncIterator[dict[str, Any]], provider: str, response: httpx.Response | None = None
    ) -> None:
        """`response` is what the events are read from, if anything is."""
        self._events, self._response = events, response
        #: LiteLLM's name of it.
        self.provider: str | None = provider

    async def __aiter__(self) -> AsyncIterator[dict[str, Any]]:
        async for event in self._events:
            if not isinstance(event.get("choices"), list):
                mend_openai_form(event, streamed=True)
            yield event

    async def aclose(self) -> None:
        """Close the provider's connection, or give it back where the answer has been read to its end."""
        if self._response is not None:
            await self._response.aclose()
