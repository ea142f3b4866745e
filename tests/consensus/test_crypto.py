"""Keys and signatures: vectors of RFC 8032, files that nobody else may read, certificates as outsiders check them."""

from __future__ import annotations

import pickle
from dataclasses import replace
from pathlib import Path

import pytest

from consensus.simplex.crypto import Checker, KeyUnusable, Signer, load_key, make_key, verify
from consensus.simplex.types import Certificate, Committee, Kind, Vote, vote_bytes

# RFC 8032, section 7.1: seed, public key, message, signature.
VECTORS = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e06522490155"
        "5fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da"
        "085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]
DIGEST = bytes(range(32))
SIGNERS = [Signer(bytes([n]) * 32) for n in range(4)]
COMMITTEE = Committee.founded(tuple(signer.public for signer in SIGNERS), b"test")


def vote(voter: int, kind: Kind = Kind.FINALIZE, view: int = 3) -> Vote:
    signature = SIGNERS[voter].sign(vote_bytes(COMMITTEE.chain, kind, 0, view, DIGEST))
    return Vote(kind, 0, view, DIGEST, voter, signature)


def certificate(*chosen: int) -> Certificate:
    return Certificate(Kind.FINALIZE, 0, 3, DIGEST, tuple((voter, vote(voter).signature) for voter in chosen))


@pytest.mark.parametrize(("seed", "public", "message", "signature"), VECTORS)
def test_signatures_are_those_of_the_standard(seed: str, public: str, message: str, signature: str) -> None:
    signer = Signer(bytes.fromhex(seed))
    assert signer.public.hex() == public
    assert signer.sign(bytes.fromhex(message)).hex() == signature
    assert verify(signer.public, bytes.fromhex(message), bytes.fromhex(signature))
    assert not verify(signer.public, bytes.fromhex(message) + b"x", bytes.fromhex(signature))


@pytest.mark.parametrize("signature", [b"", b"x", bytes(63), bytes(64), bytes(65)])
@pytest.mark.parametrize("public", [b"", bytes(31), bytes(32), SIGNERS[0].public])
def test_what_is_no_signature_is_not_verified(public: bytes, signature: bytes) -> None:
    assert not verify(public, b"message", signature)


def test_quorums_are_certificates_and_less_is_not() -> None:
    checker = Checker(COMMITTEE)
    assert checker.certificate(certificate(0, 1, 2)) and checker.certificate(certificate(0, 1, 2, 3))
    assert not checker.certificate(certificate(0, 1))
    assert not Checker(replace(COMMITTEE, epoch=1)).certificate(certificate(0, 1, 2))
    assert not Checker(replace(COMMITTEE, chain=bytes(32))).certificate(certificate(0, 1, 2))
    assert not Checker(replace(COMMITTEE, quarantined=frozenset({2}))).certificate(certificate(0, 1, 2))
    swapped = Certificate(
        Kind.FINALIZE, 0, 3, DIGEST, ((0, vote(1).signature), (1, vote(0).signature), (2, vote(2).signature))
    )
    assert not checker.certificate(swapped)
    assert not checker.certificate(replace(certificate(0, 1, 2), view=4))
    assert not checker.certificate(replace(certificate(0, 1, 2), kind=Kind.NOTARIZE))


def test_votes_are_their_voters_alone() -> None:
    checker = Checker(COMMITTEE)
    assert checker.vote(vote(1))
    assert not checker.vote(replace(vote(1), voter=2))
    assert not checker.vote(replace(vote(1), voter=9))
    assert checker.checked == 3


def test_a_key_is_made_once_loaded_again_and_readable_by_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "key"
    made = make_key(path)
    assert path.stat().st_mode & 0o777 == 0o600
    assert load_key(path).public == made.public
    with pytest.raises(KeyUnusable, match="no key can be made"):
        make_key(path)
    assert load_key(path).public == made.public


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    make_key(path)
    path.chmod(0o640)
    with pytest.raises(KeyUnusable, match="others may read"):
        load_key(path)


@pytest.mark.parametrize("content", [b"", b"short", bytes(33)])
def test_a_file_that_holds_no_key_is_refused(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "key"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(KeyUnusable):
        load_key(path)


def test_a_missing_key_and_a_link_to_one_are_refused(tmp_path: Path) -> None:
    make_key(tmp_path / "key")
    (tmp_path / "link").symlink_to(tmp_path / "key")
    for name in ("nowhere", "link"):
        with pytest.raises(KeyUnusable, match="cannot be read"):
            load_key(tmp_path / name)


def test_a_key_stays_in_its_process_and_does_not_show() -> None:
    with pytest.raises(TypeError):
        pickle.dumps(SIGNERS[0])
    assert SIGNERS[0].public.hex()[:16] in repr(SIGNERS[0]) and (bytes([0]) * 8).hex() not in repr(SIGNERS[0])
