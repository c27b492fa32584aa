from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from rustic_ai.llm_queue.tasks.call import EmbeddingCall
from rustic_ai.llm_queue.tasks.error_kind import ErrorKind
from rustic_ai.llm_queue.tasks.policy.embedding_limits import limits_of
from rustic_ai.llm_queue.tasks.privacy.scrub import Scrubber
from rustic_ai.llm_queue.tasks.usage import Usage
from rustic_ai.llm_queue.tasks.vectors import pack_vectors

from ...pool.inline_executor import in_thread_if
from ..completion import Completion
from ..cost import cost_usd
from ..failures.classify import classify
from ..targets.credentials import Target
from ..wire.exchange import ClientRules, answer_is_large, exchange
from .answer import Vectors, read_vectors
from .checks import most_tokens
from .gathering import Gathering
from .request import post_embeddings
from .shared_call import OnCall
from .shares import Answer, Share
from .text_length import fitting_texts

#: Room for one vector as JSON, beyond what any answer may have: a call may ask for thousands.
_VECTOR_BYTES = 100_000
#: Packing more of them takes milliseconds.
_MANY_NUMBERS = 100_000
#: What a provider answers when it does not like one of a call's texts.
_REFUSALS = frozenset(
    {ErrorKind.BAD_REQUEST, ErrorKind.UNPROCESSABLE, ErrorKind.CONTEXT_WINDOW, ErrorKind.CONTENT_POLICY}
)


class Embedder:
    """Makes the provider calls of embedding jobs, which share one where they differ in their texts alone."""

    def __init__(
        self,
        *,
        timeout_s: float,
        fast_path: bool,
        rules: ClientRules,
        jobs_on_their_way: Callable[[], int],
        on_call: OnCall | None = None,
    ) -> None:
        """Args:
        jobs_on_their_way: how many jobs the worker is taking up, of which some may share a call.
        """
        self._timeout_s, self._fast_path = timeout_s, fast_path
        self._rules = rules
        self._gathering = Gathering(refused=_refused, jobs_on_their_way=jobs_on_their_way, on_call=on_call)

    async def complete(
        self, call: EmbeddingCall, target: Target, *, org: str, alone: bool = False
    ) -> Completion:
        """The vectors of one job's texts. Raises what `Provider.failure` explains."""
        params = {name: value for name, value in call.params.items() if value is not None}
        name = str(target.options.get("model", target.model))
        texts = await fitting_texts(
            call.texts, most_tokens(name, target.provider), truncate=bool(params.pop("truncate", False))
        )
        share = await self._gathering.embed(
            object() if alone else _key(org, target, params),
            texts,
            limits=limits_of(name),
            post=partial(self._post, target, params),
        )
        many = sum(map(len, share.vectors)) > _MANY_NUMBERS
        response = await in_thread_if(many, partial(_response, call, share))
        return Completion(response, _usage(share))

    async def _post(self, target: Target, params: dict[str, Any], texts: Sequence[str]) -> Answer:
        room = self._rules.max_answer_bytes + len(texts) * _VECTOR_BYTES
        with exchange(replace(self._rules, max_answer_bytes=room, mends=False)):
            body = await post_embeddings(
                target, texts, params, timeout_s=self._timeout_s, fast_path=self._fast_path
            )
        read = partial(read_vectors, body, count=len(texts), dimensions=params.get("dimensions"))
        vectors = await in_thread_if(answer_is_large(), read)
        return Answer(vectors, _cost_usd(vectors, target))


def _key(org: str, target: Target, params: dict[str, Any]) -> Hashable:
    # With the credential in it: no text goes out under another job's key.
    facts = [org, target.model, target.provider, target.routed, dict(target.options), params]
    return json.dumps(facts, sort_keys=True, default=repr)


def _refused(error: Exception) -> bool:
    return classify(error, model="", provider=None, scrubber=Scrubber()).kind in _REFUSALS


def _response(call: EmbeddingCall, share: Share) -> dict[str, Any]:
    counted = share.prompt_tokens
    return {
        "model": share.model or call.model,
        **pack_vectors(share.vectors),
        **({} if counted is None else {"usage": {"prompt_tokens": counted, "total_tokens": counted}}),
    }


def _usage(share: Share) -> Usage:
    return Usage(
        prompt_tokens=share.prompt_tokens,
        completion_tokens=None if share.prompt_tokens is None else 0,
        cost_usd=share.cost_usd,
        usage_estimated=share.jobs > 1 and share.prompt_tokens is not None,
    )


def _cost_usd(vectors: Vectors, target: Target) -> float | None:
    if target.foreign:
        # What a server of the job's own owner charges, and whether it counts, nobody here knows.
        return None
    name = str(target.options.get("model", target.model))
    counts = {"prompt_tokens": vectors.prompt_tokens, "completion_tokens": 0}
    return cost_usd(name, target.provider, counts, target.prices)
