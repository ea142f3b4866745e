"""Ed25519 signatures, behind three functions: make a key, sign, verify.

Neither PyNaCl nor any other library for Python verifies a batch at once; verifying a quorum one by one names the bad
signature as it meets it, so there is nothing to bisect.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

from nacl.bindings import (
    crypto_sign,
    crypto_sign_BYTES,
    crypto_sign_open,
    crypto_sign_seed_keypair,
)
from nacl.exceptions import BadSignatureError

from cluster.errors import InvalidInput
from consensus.simplex.types import (
    Certificate,
    Committee,
    Kind,
    Notice,
    Standing,
    Vote,
    notice_bytes,
    standing_bytes,
    vote_bytes,
)

SEED_BYTES = 32
PRIVATE = 0o077

Verify = Callable[[bytes, bytes, bytes], bool]


class Signs(Protocol):
    """A key that signs: :class:`Signer`, or what a simulation has for it."""

    public: bytes

    def sign(self, message: bytes) -> bytes:
        """Signature of a message."""
        ...


class KeyUnusable(InvalidInput):
    """A key's file is missing, readable by others, or holds no key."""


class Signer:
    """A private key. It prints as its public half, and does not pickle: it never leaves its process."""

    def __init__(self, seed: bytes) -> None:
        if len(seed) != SEED_BYTES:
            raise KeyUnusable(f"a key of {len(seed)} bytes", f"It has {SEED_BYTES}")
        self.public, self._secret = crypto_sign_seed_keypair(seed)

    def __repr__(self) -> str:
        return f"Signer({self.public.hex()[:16]})"

    def __reduce__(self) -> str:
        raise TypeError("a private key stays in the process that loaded it")

    def sign(self, message: bytes) -> bytes:
        """Signature of a message, 64 bytes."""
        return crypto_sign(message, self._secret)[:crypto_sign_BYTES]


def verify(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether a signature is this key's over this message."""
    try:
        crypto_sign_open(signature + message, public)
    except (BadSignatureError, ValueError, TypeError):
        return False
    return True


def make_key(path: Path) -> Signer:
    """A new key, kept in a file that nobody else may read.

    Raises
    ------
    KeyUnusable
        Something lies there already.
    """
    seed = os.urandom(SEED_BYTES)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        raise KeyUnusable(f"no key can be made at {path} ({error.strerror})", "Give another place") from error
    with os.fdopen(descriptor, "wb") as file:
        file.write(seed)
        file.flush()
        os.fsync(file.fileno())
    return Signer(seed)


def load_key(path: Path) -> Signer:
    """The key of a file.

    Raises
    ------
    KeyUnusable
        It is missing, others may read it, or it holds no key.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    except OSError as error:
        raise KeyUnusable(f"the key {path} cannot be read ({error.strerror})", "Make one, or restore it") from error
    with os.fdopen(descriptor, "rb") as file:
        mode = stat.S_IMODE(os.fstat(file.fileno()).st_mode)
        if mode & PRIVATE:
            raise KeyUnusable(
                f"others may read the key {path} (mode {mode:04o})", f"Run `chmod 600 {path}`, or renew it"
            )
        return Signer(file.read(SEED_BYTES + 1))


class Checker:
    """Checks what one epoch's voters signed, and counts how often it had to.

    Parameters
    ----------
    check : callable
        (public key, message, signature) -> whether it is genuine: :func:`verify`, or what a simulation has for it.
    """

    def __init__(self, committee: Committee, check: Verify = verify) -> None:
        self.committee, self._check = committee, check
        self.checked = 0

    def vote(self, vote: Vote) -> bool:
        """Whether a vote of this epoch is signed by the voter that it names."""
        c = self.committee
        return vote.epoch == c.epoch and self._signed(vote.voter, vote_bytes(c.chain, *_of(vote)), vote.signature)

    def certificate(self, certificate: Certificate) -> bool:
        """Whether a quorum of this epoch's voters has signed what a certificate says."""
        c, signatures = self.committee, certificate.signatures
        if certificate.epoch != c.epoch or len(signatures) < c.quorum:
            return False
        message = vote_bytes(c.chain, *_of(certificate))
        return all(c.counts(voter) and self._signed(voter, message, signature) for voter, signature in signatures)

    def notice(self, notice: Notice) -> bool:
        """Whether the voter that a notice names has signed that it passes the certificate on."""
        return self._signed(notice.voter, notice_bytes(self.committee.chain, notice.certificate), notice.signature)

    def standing(self, standing: Standing) -> bool:
        """Whether the voter that a standing names has signed it. Its certificate is for :meth:`certificate`."""
        s = standing
        message = standing_bytes(self.committee.chain, s.epoch, s.view, s.height, s.tip, s.nonce)
        return self._signed(s.voter, message, s.signature)

    def _signed(self, voter: int, message: bytes, signature: bytes) -> bool:
        self.checked += 1
        return voter < len(self.committee.keys) and self._check(self.committee.keys[voter], message, signature)


def _of(said: Vote | Certificate) -> tuple[Kind, int, int, bytes]:
    return said.kind, said.epoch, said.view, said.digest
