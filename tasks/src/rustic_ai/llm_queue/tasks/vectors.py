"""Vectors on the wire: float32, little-endian, all of an answer's in one base64 text."""

from __future__ import annotations

import base64
import binascii
import sys
from array import array
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from .contract import ContractViolation

#: What a response that holds vectors calls itself.
OBJECT = "embeddings"
_FLOAT32_BYTES = 4
#: Far more numbers than any model's vector has.
MOST_DIMENSIONS = 1_000_000


def floats_of_base64(text: str) -> array[float]:
    """A provider's base64 vector. Raises `ValueError` when it is none."""
    data = base64.b64decode(text, validate=True)
    if not data or len(data) % _FLOAT32_BYTES:
        raise ValueError(f"{len(data)} bytes are no vector of float32")
    vector = array("f", data)
    return _swapped(vector)


def pack_vectors(vectors: Sequence[array[float]]) -> dict[str, Any]:
    """Vectors of one length as the fields that travel."""
    joined = array("f")
    for vector in vectors:
        joined.extend(vector)
    return {
        "object": OBJECT,
        "dimensions": len(vectors[0]),
        "vectors": base64.b64encode(_swapped(joined).tobytes()).decode(),
    }


def unpack_vectors(fields: dict[str, Any], *, count: int) -> list[list[float]]:
    """The vectors that were packed.

    Args:
        count: how many there have to be.

    Raises `ContractViolation` when the fields do not hold so many.
    """
    data, dimensions = _bytes_of(fields, count)
    floats = _swapped(array("f", data)).tolist()
    return [floats[at : at + dimensions] for at in range(0, len(floats), dimensions)]


def packed_vectors(fields: Mapping[str, Any], *, count: int) -> list[bytes]:
    """Each packed vector by itself, as float32. Raises `ContractViolation` as `unpack_vectors` does."""
    data, dimensions = _bytes_of(fields, count)
    size = dimensions * _FLOAT32_BYTES
    return [data[at : at + size] for at in range(0, len(data), size)]


def pack_bytes(vectors: Sequence[bytes]) -> dict[str, Any]:
    """Packed vectors of one length as the fields that travel."""
    return {
        "object": OBJECT,
        "dimensions": len(vectors[0]) // _FLOAT32_BYTES,
        "vectors": base64.b64encode(b"".join(vectors)).decode(),
    }


def _bytes_of(fields: Mapping[str, Any], count: int) -> tuple[bytes, int]:
    dimensions, packed = fields.get("dimensions"), fields.get("vectors")
    if type(dimensions) is not int or not 0 < dimensions <= MOST_DIMENSIONS or not isinstance(packed, str):
        raise ContractViolation("the answer holds no vectors")
    try:
        data = base64.b64decode(packed, validate=True)
    except (binascii.Error, ValueError):
        raise ContractViolation("the answer's vectors are not base64") from None
    if len(data) != count * dimensions * _FLOAT32_BYTES:
        raise ContractViolation(
            f"the answer holds {len(data)} bytes, where {count} vectors of {dimensions} numbers belong"
        )
    return data, dimensions


def floats_of(numbers: Iterable[float]) -> array[float]:
    """Numbers as float32. Raises `TypeError` or `OverflowError` for what is no number of that size."""
    return array("f", numbers)


def float32_bytes(numbers: Iterable[float]) -> bytes:
    """Numbers as little-endian float32."""
    return _swapped(floats_of(numbers)).tobytes()


def _swapped(vector: array[float]) -> array[float]:
    if sys.byteorder == "big":
        vector.byteswap()
    return vector
