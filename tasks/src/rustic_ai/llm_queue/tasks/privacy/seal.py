from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
import os
import time
from collections.abc import Mapping
from datetime import timedelta
from enum import StrEnum
from pathlib import Path

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from ..contract import WIRE_VERSION, ContractViolation
from ..owner import Owner
from .secret_file import read_secret

_NONCE_BYTES = 12
_TAG_BYTES = 16
_PLAIN = "plain"
_SEALED = "aes256gcm"


class SealError(ContractViolation):
    """A record that does not open: moved, replayed under another id, altered, stale, or of an unknown key."""


class Purpose(StrEnum):
    """What a sealed text is for, bound into it so that one kind cannot pose as another."""

    REQUEST = "request"
    RESULT = "result"
    FRAME = "frame"
    CACHE = "cache"


class KeyRing:
    """AES-256 keys by id. The first seals, every one opens, so a key is rotated by prepending."""

    def __init__(self, keys: Mapping[str, bytes]) -> None:
        for key_id, key in keys.items():
            if not key_id or ":" in key_id or "," in key_id:
                raise ValueError(f"sealing key id {key_id!r} is empty or holds ':' or ','")
            if len(key) != 32:
                raise ValueError(f"sealing key {key_id!r} has {len(key)} bytes; AES-256 needs 32")
        self._ciphers = {key_id: AESGCM(key) for key_id, key in keys.items()}
        # A key of its own per use: the fingerprint key must reveal nothing about the cipher's.
        self._fingerprint_keys = {
            key_id: hmac.digest(key, b"fingerprint", hashlib.sha256) for key_id, key in keys.items()
        }
        self._current = next(iter(self._ciphers), None)
        current = next(iter(keys.values()), None)
        self._reuse_key = hmac.digest(current, b"reuse", hashlib.sha256) if current else None
        #: Keeps the names of limits from showing the keys and owners that they are split by; empty
        #: without a sealing key.
        self.limit_key = hmac.digest(current, b"limit", hashlib.sha256) if current else b""
        #: Signs what is posted of budgets; empty without a sealing key.
        self.alert_key = hmac.digest(current, b"alert", hashlib.sha256) if current else b""

    def __bool__(self) -> bool:
        return self._current is not None

    @property
    def ids(self) -> list[str]:
        """The keys' names, the one that seals first."""
        return list(self._ciphers)

    def __repr__(self) -> str:
        return f"KeyRing(ids={list(self._ciphers)})"

    @classmethod
    def parse(cls, text: str) -> KeyRing:
        """Read `id:base64,id:base64` (newlines serve as commas). Raises `ValueError`."""
        keys: dict[str, bytes] = {}
        for entry in filter(None, (part.strip() for part in text.replace("\n", ",").split(","))):
            key_id, colon, encoded = entry.partition(":")
            if not colon:
                raise ValueError("a sealing key is `id:base64`; make one with `llm-queue make-key`")
            try:
                keys[key_id] = base64.b64decode(encoded, validate=True)
            except binascii.Error as error:
                raise ValueError(f"sealing key {key_id!r} is not base64: {error}") from None
        return cls(keys)

    @classmethod
    def load(cls, text: str, file: Path | None) -> KeyRing:
        """The keys of the setting, or of the file when the setting is empty. Raises `ValueError`."""
        return cls.parse(text or (read_secret("sealing_keys_file", file) if file else ""))

    def fingerprints(self, text: str) -> list[str]:
        """A keyed hash of `text` by every key, the current one first."""
        return [
            f"{key_id}:{hmac.digest(key, text.encode(), hashlib.sha256).hex()[:32]}"
            for key_id, key in self._fingerprint_keys.items()
        ]

    def reuse_digest(self, text: str) -> str | None:
        """A keyed hash of `text` by the key that seals; None without one. A new key makes all of them new."""
        if self._reuse_key is None:
            return None
        return hmac.digest(self._reuse_key, text.encode(), hashlib.sha256).hex()

    def encrypt(self, plaintext: bytes, associated: bytes) -> tuple[str, bytes]:
        assert self._current is not None
        nonce = os.urandom(_NONCE_BYTES)
        return self._current, nonce + self._ciphers[self._current].encrypt(nonce, plaintext, associated)

    def decrypt(self, key_id: str, blob: bytes, associated: bytes) -> bytes:
        cipher = self._ciphers.get(key_id)
        if cipher is None:
            raise SealError(f"sealed with the unknown key {key_id[:32]!r}; add it to the key ring")
        try:
            return cipher.decrypt(blob[:_NONCE_BYTES], blob[_NONCE_BYTES:], associated)
        except (InvalidTag, ValueError):
            raise SealError("the sealed record does not open: it was altered or moved") from None


class Sealer:
    """Turns the private half of a record into text that only a holder of the keys can read.

    Without keys the text is plain JSON, marked as such. With keys, a plain text is refused:
    otherwise whoever can write to Redis could simply not seal.
    """

    def __init__(self, ring: KeyRing) -> None:
        self._ring = ring

    @property
    def key_ids(self) -> list[str]:
        """The names of the keys, the one that seals first."""
        return self._ring.ids

    @property
    def seals(self) -> bool:
        """Whether what is sealed is in fact encrypted."""
        return bool(self._ring)

    def fingerprints(self, text: str) -> list[str]:
        """Hashes that show whether two texts are equal, and nothing else to a reader without a key.

        One for every key of the ring, the current one first: a rotation must not make an
        equal request look like another.
        """
        return self._ring.fingerprints(text) or [f"{_PLAIN}:{hashlib.sha256(text.encode()).hexdigest()[:32]}"]

    def reuse_digest(self, text: str) -> str:
        """A name for what is equal to `text`, which reveals nothing about it to a reader without the key."""
        return self._ring.reuse_digest(text) or hashlib.sha256(f"reuse:{text}".encode()).hexdigest()

    def seal(self, plaintext: str, *, purpose: Purpose, job_id: str, owner: Owner) -> str:
        if not self._ring:
            return f"{_PLAIN}:{plaintext}"
        sealed_at = str(int(time.time()))
        key_id, blob = self._ring.encrypt(plaintext.encode(), _associated(purpose, job_id, owner, sealed_at))
        return f"{_SEALED}:{key_id}:{sealed_at}:{base64.b64encode(blob).decode()}"

    def open(
        self,
        text: str,
        *,
        purpose: Purpose,
        job_id: str,
        owner: Owner,
        max_age: timedelta | None = None,
    ) -> str:
        """The plaintext.

        Args:
            max_age: what was sealed longer ago is stale. A plain record shows no age.

        Raises `SealError` unless it was sealed for exactly this use.
        """
        scheme, _, rest = text.partition(":")
        if scheme == _PLAIN:
            if self._ring:
                raise SealError("a plain record where sealing is on")
            return rest
        if scheme != _SEALED:
            raise SealError("a record of an unknown sealing scheme")
        if not self._ring:
            raise SealError("a sealed record, and no sealing key is set (LLM_QUEUE_SEALING_KEYS)")
        key_id, _, rest = rest.partition(":")
        sealed_at, _, encoded = rest.partition(":")
        try:
            blob = base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            raise SealError("the sealed record is not base64") from None
        # The last characters have bits that decode to nothing: one record has one text.
        if base64.b64encode(blob[-(len(blob) % 3 or 3) :]).decode() != encoded[-4:]:
            raise SealError("the sealed record is not base64")
        plaintext = self._ring.decrypt(key_id, blob, _associated(purpose, job_id, owner, sealed_at))
        # Only now is the time known to be the sealer's.
        if max_age is not None and time.time() - int(sealed_at) > max_age.total_seconds():
            raise SealError("the sealed record is stale: it is older than any record of a job's may be")
        return plaintext.decode()


def plaintext_size(text: str) -> int:
    """The bytes that are sealed in `text`, known without opening it."""
    scheme, _, rest = text.partition(":")
    if scheme == _SEALED:
        encoded = len(rest) - rest.rfind(":") - 1
        return encoded // 4 * 3 - _NONCE_BYTES - _TAG_BYTES
    return len(rest.encode(errors="surrogatepass"))


def make_key() -> str:
    """A new random key in the form the setting takes, with an id of its own."""
    return f"k{os.urandom(4).hex()}:{base64.b64encode(AESGCM.generate_key(256)).decode()}"


def _associated(purpose: Purpose, job_id: str, owner: Owner, sealed_at: str) -> bytes:
    # A JSON list, not joined text: no choice of ids can make two of these equal.
    bound = [WIRE_VERSION, purpose, job_id, owner.org, owner.guild, owner.agent, sealed_at]
    return json.dumps(bound).encode()
