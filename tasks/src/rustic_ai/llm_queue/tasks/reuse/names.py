from __future__ import annotations

import json

from ..call import EmbeddingCall, ModelCall
from ..owner import Owner
from ..privacy.seal import Sealer
from .options import CacheScope

#: How often to try again, how long to wait and whether to stream change no answer.
_DECIDES_THE_ANSWER = {"model", "fallback_models", "endpoint", "endpoint_model", "params", "texts"}


def reuse_name(call: ModelCall, owner: Owner, sealer: Sealer) -> str:
    """The name of all calls that are equal to this one in its scope: a keyed hash in hexadecimal.

    Equal calls ask the same models for the same with the same credential and endpoint.
    """
    assert call.reuse is not None
    asked = call.model_dump(mode="json", include=_DECIDES_THE_ANSWER)
    parts = [
        call.kind,
        call.reuse.cache_scope,
        *_scope_ids(call.reuse.cache_scope, owner),
        call.reuse.cache_key_extra,
    ]
    return sealer.reuse_digest(json.dumps([parts, asked], sort_keys=True, separators=(",", ":")))


def text_names(call: EmbeddingCall, owner: Owner, sealer: Sealer) -> list[str]:
    """The name of each of the call's texts: whatever calls it comes in, if they ask alike for it."""
    alike = reuse_name(call.model_copy(update={"texts": ()}), owner, sealer)
    return [sealer.reuse_digest(json.dumps(["text", alike, text])) for text in call.texts]


def same_scope(scope: CacheScope, one: Owner, other: Owner) -> bool:
    """Whether the two may share an answer of this scope."""
    return _scope_ids(scope, one) == _scope_ids(scope, other)


def scope_name(scope: CacheScope, owner: Owner) -> str:
    """The scope as a JSON list; no choice of ids makes two scopes the same."""
    return json.dumps([scope, *_scope_ids(scope, owner)])


def _scope_ids(scope: CacheScope, owner: Owner) -> tuple[str, ...]:
    return {
        "org": (owner.org,),
        "guild": (owner.org, owner.guild),
        "agent": (owner.org, owner.guild, owner.agent),
    }[scope]
