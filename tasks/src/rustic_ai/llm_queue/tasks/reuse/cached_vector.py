from __future__ import annotations

import base64
import binascii

from pydantic import Field, ValidationError

from ..contract import WIRE_VERSION, Contract, ContractViolation, Whole, check_version
from ..owner import Owner
from ..privacy.seal import Sealer
from ..usage import UsDollars
from .cached_answer import bound_to
from .options import CacheScope

_FLOAT32_BYTES = 4


class CachedVector(Contract):
    """The vector of one text, kept for calls that hold the text; sealed for the scope that may share it."""

    v: int = WIRE_VERSION
    #: When the provider gave it, in Unix milliseconds by its worker's clock.
    made_ms: Whole
    #: The model in the provider's own words.
    model: str
    #: Little-endian float32, in base64.
    vector: str = Field(repr=False)
    #: The text's part of what its call took; None where nothing is known.
    prompt_tokens: int | None = Field(default=None, ge=0)
    cost_usd: UsDollars = None

    @property
    def packed(self) -> bytes:
        """The vector as float32. Raises `ContractViolation` where it is none."""
        try:
            data = base64.b64decode(self.vector, validate=True)
        except (binascii.Error, ValueError):
            raise ContractViolation("the kept vector is not base64") from None
        if not data or len(data) % _FLOAT32_BYTES:
            raise ContractViolation("the kept vector is not made of float32")
        return data

    def seal(self, sealer: Sealer, *, name: str, scope: CacheScope, owner: Owner) -> str:
        """The vector as text that opens under this name and in this scope alone."""
        return sealer.seal(self.model_dump_json(), **bound_to(name, scope, owner))

    @classmethod
    def open(cls, text: str, sealer: Sealer, *, name: str, scope: CacheScope, owner: Owner) -> CachedVector:
        """Raises `ContractViolation` when it does not open here, or is no vector of this contract."""
        body = sealer.open(text, **bound_to(name, scope, owner))
        try:
            kept = cls.model_validate_json(body)
        except ValidationError:
            raise ContractViolation("the kept vector does not validate") from None
        check_version(kept.v, what="kept vector")
        _ = kept.packed
        return kept
