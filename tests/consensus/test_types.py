"""What is hashed, signed and sent: one encoding for one thing, and nothing from outside but :class:`Malformed`."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidInput
from consensus.simplex.core import Turn
from consensus.simplex.proofs import ConflictingVotes, FalseNotice
from consensus.simplex.proofs import decode as decode_proof
from consensus.simplex.proofs import encode as encode_proof
from consensus.simplex.types import (
    LARGEST,
    MOST_REQUEST_BYTES,
    MOST_REQUESTS,
    NOTHING,
    Ask,
    Block,
    Certificate,
    Committee,
    Finality,
    Kind,
    Malformed,
    Message,
    Notice,
    Proposal,
    Request,
    Standing,
    Supply,
    Vote,
    decode,
    encode,
    notice_bytes,
    packed,
    standing_bytes,
    vote_bytes,
)
from consensus.simulator.world import World

whole = st.integers(0, LARGEST)
views = st.integers(1, LARGEST)
digests = st.binary(min_size=32, max_size=32).filter(lambda digest: digest != NOTHING)
signatures = st.binary(min_size=64, max_size=64)
voters = st.integers(0, 9)
kinds = st.sampled_from(list(Kind))


@st.composite
def votes(draw: Any) -> Vote:
    kind = draw(kinds)
    digest = NOTHING if kind is Kind.NULLIFY else draw(digests)
    return Vote(kind, draw(whole), draw(views), digest, draw(voters), draw(signatures))


@st.composite
def certificates(draw: Any) -> Certificate:
    kind = draw(kinds)
    digest = NOTHING if kind is Kind.NULLIFY else draw(digests)
    signed = tuple((voter, draw(signatures)) for voter in sorted(draw(st.sets(voters))))
    return Certificate(kind, draw(whole), draw(views), digest, signed)


@st.composite
def blocks(draw: Any) -> Block:
    view = draw(views)
    requests = draw(st.lists(st.binary(min_size=1, max_size=40), max_size=4))
    parent_view = draw(st.integers(0, view - 1))
    return Block(draw(whole), view, draw(views), parent_view, draw(digests), tuple(requests))


proposals = st.builds(Proposal, blocks(), votes())
notices = st.builds(Notice, certificates(), voters, signatures)
finalities = st.builds(Finality, st.lists(blocks(), min_size=1, max_size=3).map(tuple), certificates())
messages = st.one_of(
    proposals,
    votes(),
    notices,
    st.builds(Standing, whole, whole, whole, digests, st.none() | certificates(), voters, whole, signatures),
    st.builds(Ask, whole, st.lists(digests, max_size=3).map(tuple), whole),
    st.builds(
        Supply,
        st.lists(finalities, max_size=2).map(tuple),
        st.lists(blocks(), max_size=2).map(tuple),
        st.lists(certificates(), max_size=2).map(tuple),
    ),
    st.builds(Request, st.binary(min_size=1, max_size=200)),
)


@given(messages)
def test_messages_come_back_as_they_went(message: Message) -> None:
    data = encode(message)
    assert decode(data) == message and encode(decode(data)) == data


@given(st.one_of(st.builds(ConflictingVotes, votes(), votes()), st.builds(FalseNotice, notices)))
def test_proofs_come_back_as_they_went(proof: Any) -> None:
    assert decode_proof(encode_proof(proof)) == proof


@settings(max_examples=300)
@given(st.binary(max_size=300))
def test_bytes_are_a_message_or_malformed(data: bytes) -> None:
    for read in (decode, decode_proof):
        try:
            read(data)
        except Malformed:
            continue


@settings(max_examples=300)
@given(messages, st.randoms(use_true_random=False))
def test_a_message_with_a_byte_changed_is_another_or_malformed(message: Message, chance: random.Random) -> None:
    data = bytearray(encode(message))
    place = chance.randrange(len(data))
    data[place] ^= 1 << chance.randrange(8)
    try:
        other = decode(bytes(data))
    except Malformed:
        return
    assert other != message or bytes(data) != encode(message)


garbage = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.floats() | st.binary(max_size=70) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=7),
    max_leaves=30,
)


@settings(max_examples=300)
@given(st.integers(0, 9), st.lists(garbage, max_size=8))
def test_fields_of_any_kind_are_a_message_or_malformed(tag: int, fields: list[Any]) -> None:
    try:
        data = packed([tag, *fields])
    except (ValueError, TypeError, OverflowError):
        return
    try:
        assert encode(decode(data))
    except Malformed:
        return


@given(blocks(), blocks())
def test_different_blocks_have_different_digests(one: Block, other: Block) -> None:
    assert (one.digest == other.digest) == (one == other)


@given(blocks())
def test_every_field_of_a_block_is_in_its_digest(block: Block) -> None:
    changed = [
        replace(block, epoch=(block.epoch + 1) % LARGEST),
        replace(block, height=block.height % LARGEST + 1),
        replace(block, requests=(*block.requests, b"more")),
        replace(block, requests=(*block.requests[:-1], (block.requests or (b"",))[-1] + b"x")),
        replace(
            block, parent=bytes(reversed(block.parent)) if block.parent != block.parent[::-1] else bytes(31) + b"x"
        ),
    ]
    assert len({block.digest, *(other.digest for other in changed if other != block)}) >= 4


@given(votes())
def test_every_field_of_a_vote_is_signed(vote: Vote) -> None:
    chain = bytes(range(32))
    said = vote_bytes(chain, vote.kind, vote.epoch, vote.view, vote.digest)
    others = {
        vote_bytes(bytes(32), vote.kind, vote.epoch, vote.view, vote.digest),
        vote_bytes(chain, Kind(vote.kind % 3 + 1), vote.epoch, vote.view, vote.digest),
        vote_bytes(chain, vote.kind, vote.epoch ^ 1, vote.view, vote.digest),
        vote_bytes(chain, vote.kind, vote.epoch, vote.view ^ 1, vote.digest),
        vote_bytes(chain, vote.kind, vote.epoch, vote.view, bytes([vote.digest[0] ^ 1]) + vote.digest[1:]),
    }
    assert len(others) == 5 and said not in others


def test_no_signature_serves_for_another_kind_of_message() -> None:
    chain = bytes(range(32))
    certificate = Certificate(Kind.NULLIFY, 0, 1, NOTHING, ())
    said = [
        vote_bytes(chain, Kind.NULLIFY, 0, 1, NOTHING),
        notice_bytes(chain, certificate),
        standing_bytes(chain, 0, 1, 0, NOTHING, 0),
    ]
    tags = [text[: text.index(b"\x00")] for text in said]
    assert len(set(tags)) == 3 and not any(a != b and a.startswith(b) for a in tags for b in tags)


KEYS = tuple(bytes([n]) * 32 for n in range(10))


@pytest.mark.parametrize("size", [0, 1, 2, 3, 5, 6, 8, 9])
def test_committees_of_other_sizes_are_refused(size: int) -> None:
    with pytest.raises(InvalidInput, match="4, 7 or 10"):
        Committee.founded(KEYS[:size], b"")


@pytest.mark.parametrize(("size", "faults", "quorum"), [(4, 1, 3), (7, 2, 5), (10, 3, 7)])
def test_any_two_quorums_share_an_honest_voter(size: int, faults: int, quorum: int) -> None:
    committee = Committee.founded(KEYS[:size], b"")
    assert (committee.faults, committee.quorum) == (faults, quorum)
    assert 2 * committee.quorum - size > committee.faults
    assert size - committee.faults >= committee.quorum
    assert sorted(committee.leader(view) for view in range(1, size + 1)) == list(range(size))


def test_quarantined_voters_do_not_lead_and_do_not_count() -> None:
    committee = replace(Committee.founded(KEYS[:7], b""), quarantined=frozenset({2, 5}))
    assert {committee.leader(view) for view in range(50)} == {0, 1, 3, 4, 6}
    assert not committee.counts(2) and committee.counts(3) and not committee.counts(7)
    with pytest.raises(InvalidInput, match="At most 2"):
        replace(committee, quarantined=frozenset({0, 1, 2}))


def test_twice_the_same_key_is_refused() -> None:
    with pytest.raises(InvalidInput, match="own"):
        Committee.founded((KEYS[0], KEYS[0], KEYS[1], KEYS[2]), b"")


@pytest.mark.parametrize(
    "requests",
    [(b"",), (b"x" * (MOST_REQUEST_BYTES + 1),), (b"x",) * (MOST_REQUESTS + 1), (b"x" * MOST_REQUEST_BYTES,) * 5],
)
def test_blocks_that_are_too_large_are_malformed(requests: tuple[bytes, ...]) -> None:
    with pytest.raises(Malformed):
        Block(0, 1, 1, 0, NOTHING, requests)


@pytest.mark.parametrize("body", [b"", b"x" * (MOST_REQUEST_BYTES + 1)])
def test_requests_of_no_size_are_refused_and_nothing_changes(body: bytes) -> None:
    core = World(1).nodes[0].core
    with pytest.raises(Malformed, match="Give 1 to"):
        core.submit([b"sound", body], 0)
    assert core.pending == 0


def test_a_full_pool_refuses() -> None:
    world = World(1)
    core = world.nodes[0].core
    taken = 0
    while core.submit([b"%d" % taken], 0) is not None:
        taken += 1
    assert core.pending == taken == world.timing.most_pending
    assert isinstance(core.submit([b"0"], 0), Turn)  # what waits already is not refused
