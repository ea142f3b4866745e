"""What replicas say to each other and keep: blocks, votes, certificates, and the bytes that are hashed and signed.

Everything that is signed or hashed is written field by field, with a domain tag, in fixed widths: the same thing has
one encoding on every machine. The wire and the log carry MessagePack arrays of the same fields; whatever does not
decode to exactly such a thing is :class:`Malformed`, and nothing else is ever raised over bytes from outside.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, Final

import msgpack

from cluster.errors import InvalidInput

DIGEST_BYTES: Final = 32
KEY_BYTES: Final = 32
SIGNATURE_BYTES: Final = 64
NOTHING: Final = bytes(DIGEST_BYTES)
"""Digest of a nullification, which is about no block, and parent of the first block of all."""
SIZES: Final = (4, 7, 10)
"""Voters of a committee. Sizes between tolerate no more faults, and with 2f+1 votes they would not be safe."""
MOST_REQUEST_BYTES: Final = 64 * 1024
MOST_REQUESTS: Final = 64
"""Of one block."""
MOST_BLOCK_BYTES: Final = 256 * 1024
"""Of the requests of one block."""
MOST_BLOCKS: Final = 1024
"""Of one supply."""
MOST_CERTIFICATES: Final = 128
MOST_SUPPLY_BYTES: Final = 6 * 2**20
"""Of a message; more than one proof of finality with all blocks that may wait for it, and a block."""
MOST_MESSAGE_BYTES: Final = MOST_BLOCK_BYTES + 32 * 1024
"""Of a message that is no supply."""
MOST_ITEMS: Final = 65536
"""Of a list."""
LEAST_LIST_BYTES: Final = 16
"""Of whatever is packed, for each list in it, on average: lists of nothing take long to read."""
FEW_LISTS: Final = 64
LARGEST: Final = 2**63 - 1

_VOTE = struct.Struct(">32sQQB32s")
_BLOCK = struct.Struct(">32sQQQQ32sI")


class Malformed(InvalidInput):
    """Bytes from outside are no message, or a field of it is out of range."""


class Kind(IntEnum):
    """What a vote says of a view."""

    NOTARIZE = 1
    """This block is valid, and the first that I saw of this view."""
    NULLIFY = 2
    """I give this view up, and shall not finalise it."""
    FINALIZE = 3
    """I saw this block notarised, and have not given the view up."""


@dataclass(frozen=True, slots=True)
class Committee:
    """The voters of one epoch. Whoever has the first committee's id and keys can check every decision since.

    Raises
    ------
    InvalidInput
        There are not 4, 7 or 10 different keys, or more are quarantined than may be faulty.
    """

    chain: bytes
    """Identity of the committee through all its epochs, 32 bytes; signed with every vote."""
    epoch: int
    keys: tuple[bytes, ...]
    """Ed25519 public keys; a voter's number is its place."""
    anchor: bytes = NOTHING
    """Digest of the last block of the epoch before."""
    height: int = 0
    """Of that block."""
    quarantined: frozenset[int] = frozenset()
    """Voters that were proved faulty: they lead no view, and their votes do not count."""
    turns: tuple[int, ...] = field(init=False, compare=False, repr=False)
    """Voters who lead, in order."""

    def __post_init__(self) -> None:
        if len(self.keys) not in SIZES:
            raise InvalidInput(f"a committee of {len(self.keys)} voters", "It has 4, 7 or 10")
        sound = len(set(self.keys)) == len(self.keys) and all(len(key) == KEY_BYTES for key in self.keys)
        if not sound or len(self.chain) != DIGEST_BYTES or len(self.anchor) != DIGEST_BYTES:
            raise InvalidInput("a key of the committee is there twice or is none", "Give each voter a key of its own")
        if not (0 <= self.epoch <= LARGEST and 0 <= self.height <= LARGEST):
            raise InvalidInput(f"epoch {self.epoch}, height {self.height}", "They count from 0")
        if len(self.quarantined) > self.faults or not self.quarantined <= set(range(len(self.keys))):
            raise InvalidInput(f"{len(self.quarantined)} voters quarantined", f"At most {self.faults} may be")
        turns = tuple(voter for voter in range(len(self.keys)) if voter not in self.quarantined)
        object.__setattr__(self, "turns", turns)

    @property
    def faults(self) -> int:
        """Voters that may be faulty, f."""
        return (len(self.keys) - 1) // 3

    @property
    def quorum(self) -> int:
        """Votes of a certificate, 2f+1: any two certificates share an honest voter."""
        return 2 * self.faults + 1

    def leader(self, view: int) -> int:
        """Who proposes in a view: each in turn."""
        return self.turns[(view + self.epoch) % len(self.turns)]

    def counts(self, voter: int) -> bool:
        """Whether this voter's votes count."""
        return 0 <= voter < len(self.keys) and voter not in self.quarantined

    def may_become(self, change: Change) -> bool:
        """Whether a change names a committee that can be."""
        try:
            Committee(self.chain, self.epoch + 1, change.keys, quarantined=change.quarantined)
        except InvalidInput:
            return False
        return True

    def after(self, block: Block, change: Change) -> Committee:
        """The committee of the next epoch, which begins behind ``block``."""
        return Committee(self.chain, self.epoch + 1, change.keys, block.digest, block.height, change.quarantined)

    @classmethod
    def founded(cls, keys: tuple[bytes, ...], salt: bytes) -> Committee:
        """The first committee of a chain, whose identity says who founded it; the salt tells two of them apart."""
        return cls(_hash(b"chain", salt, *keys), 0, keys)


@dataclass(frozen=True, slots=True)
class Block:
    """Requests that one leader proposes to decide, behind a block that is notarised."""

    epoch: int
    view: int
    height: int
    parent_view: int
    """View of the parent within the epoch; 0 where the parent is the last block of the epoch before."""
    parent: bytes
    requests: tuple[bytes, ...]
    digest: bytes = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        whole = all(is_whole(x) for x in (self.epoch, self.view, self.height, self.parent_view))
        if not whole or not is_bytes(self.parent, DIGEST_BYTES) or self.view <= self.parent_view or self.height < 1:
            raise Malformed("a block's numbers contradict each other", "Send what `Block` describes")
        if len(self.requests) > MOST_REQUESTS or not all(
            isinstance(request, bytes) and 0 < len(request) <= MOST_REQUEST_BYTES for request in self.requests
        ):
            raise Malformed("a block's requests are too many, too large or empty", "Send fewer at a time")
        if sum(map(len, self.requests)) > MOST_BLOCK_BYTES:
            raise Malformed(f"a block of more than {MOST_BLOCK_BYTES} bytes", "Send fewer at a time")
        body = b"".join(hashlib.sha256(request).digest() for request in self.requests)
        fields = (NOTHING, self.epoch, self.view, self.height, self.parent_view, self.parent, len(self.requests))
        object.__setattr__(self, "digest", _hash(b"block", _BLOCK.pack(*fields), body))


@dataclass(frozen=True, slots=True)
class Vote:
    """One voter's signed word on one view."""

    kind: Kind
    epoch: int
    view: int
    digest: bytes
    """Of the block; ``NOTHING`` with a nullification."""
    voter: int
    signature: bytes

    def __post_init__(self) -> None:
        _check_subject(self.kind, self.epoch, self.view, self.digest)
        if not is_whole(self.voter) or self.voter >= max(SIZES) or not is_bytes(self.signature, SIGNATURE_BYTES):
            raise Malformed("a vote names no voter, or its signature is none", "Send what `Vote` describes")

    @property
    def subject(self) -> tuple[Kind, int, int, bytes]:
        """What is voted on."""
        return self.kind, self.epoch, self.view, self.digest


@dataclass(frozen=True, slots=True)
class Certificate:
    """A quorum's votes for the same: proof of it to whoever knows the keys."""

    kind: Kind
    epoch: int
    view: int
    digest: bytes
    signatures: tuple[tuple[int, bytes], ...]
    """(voter, signature), each voter once, in order."""

    def __post_init__(self) -> None:
        _check_subject(self.kind, self.epoch, self.view, self.digest)
        voters = [voter for voter, _ in self.signatures]
        sound = all(is_whole(voter) and voter < max(SIZES) for voter in voters) and voters == sorted(set(voters))
        if not sound or not all(is_bytes(signature, SIGNATURE_BYTES) for _, signature in self.signatures):
            raise Malformed("a certificate's voters are not in order", "Send what `Certificate` describes")

    @property
    def votes(self) -> list[Vote]:
        """The votes it is made of."""
        return [Vote(*self.subject, voter, signature) for voter, signature in self.signatures]

    @property
    def subject(self) -> tuple[Kind, int, int, bytes]:
        """What is certified."""
        return self.kind, self.epoch, self.view, self.digest


@dataclass(frozen=True, slots=True)
class Finality:
    """Why some blocks are decided: each is the next one's parent, and the last has a certificate."""

    blocks: tuple[Block, ...]
    certificate: Certificate

    @property
    def holds_together(self) -> bool:
        """Whether the blocks are a chain and the certificate is of the last one; its signatures are for others."""
        linked = all(
            after.parent == before.digest and after.height == before.height + 1 and after.parent_view == before.view
            for before, after in zip(self.blocks, self.blocks[1:], strict=False)
        )
        last, c = self.blocks[-1], self.certificate
        return linked and (c.kind, c.epoch, c.view, c.digest) == (Kind.FINALIZE, last.epoch, last.view, last.digest)


@dataclass(frozen=True, slots=True)
class Change:
    """A request that replaces the committee: the block that holds it is the last of its epoch."""

    keys: tuple[bytes, ...]
    quarantined: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Proposal:
    """A leader's block with its own vote for it, which also proves who proposed."""

    block: Block
    vote: Vote


@dataclass(frozen=True, slots=True)
class Notice:
    """A certificate passed on. Whoever passes on an invalid one has signed the proof of it."""

    certificate: Certificate
    voter: int
    signature: bytes


@dataclass(frozen=True, slots=True)
class Standing:
    """How far a replica is, with the certificates that show it; whoever is further answers with what lacks."""

    epoch: int
    view: int
    height: int
    """Of the last block that it knows to be final."""
    tip: bytes
    """Digest of that block."""
    certificate: Certificate | None
    """That ended the view before; None at the beginning of an epoch."""
    voter: int
    nonce: int
    """0, or what a replica that asked for standings gave."""
    signature: bytes


@dataclass(frozen=True, slots=True)
class Ask:
    """What a replica lacks: final blocks above a height, blocks by digest, and certificates from a view on."""

    height: int
    digests: tuple[bytes, ...]
    nonce: int
    """Not 0 asks for the standing as well, signed with this in it."""
    view: int = 0


@dataclass(frozen=True, slots=True)
class Supply:
    """What somebody lacked. All of it proves itself or is not believed."""

    final: tuple[Finality, ...]
    """Consecutive heights."""
    blocks: tuple[Block, ...]
    certificates: tuple[Certificate, ...]


@dataclass(frozen=True, slots=True)
class Request:
    """Something to be decided, passed on by whoever was asked for it."""

    body: bytes


Message = Proposal | Vote | Notice | Standing | Ask | Supply | Request


def request_id(body: bytes) -> bytes:
    """What the bytes of a request are known by."""
    return hashlib.sha256(body).digest()


def vote_bytes(chain: bytes, kind: Kind, epoch: int, view: int, digest: bytes) -> bytes:
    """What a vote's signature is over."""
    return b"riskswarm/simplex/vote/1\x00" + _VOTE.pack(chain, epoch, view, kind, digest)


def notice_bytes(chain: bytes, certificate: Certificate) -> bytes:
    """What the signature of one who passes on a certificate is over."""
    body = b"".join(bytes([voter]) + signature for voter, signature in certificate.signatures)
    subject = _VOTE.pack(chain, certificate.epoch, certificate.view, certificate.kind, certificate.digest)
    return b"riskswarm/simplex/notice/1\x00" + _hash(b"notice", subject, body)


def standing_bytes(chain: bytes, epoch: int, view: int, height: int, tip: bytes, nonce: int) -> bytes:
    """What a standing's signature is over."""
    return b"riskswarm/simplex/standing/1\x00" + struct.pack(">32sQQQ32sQ", chain, epoch, view, height, tip, nonce)


def encode(message: Message) -> bytes:
    """A message as bytes."""
    tag = _TAGS[type(message)]
    return packed([tag, *_TO_FIELDS[tag](message)])


def decode(data: bytes) -> Message:
    """The message that bytes from outside are.

    Raises
    ------
    Malformed
        They are none, or one that cannot be.
    """
    if type(data) is not bytes:
        raise Malformed(f"a message that is {type(data).__name__}", "Send bytes")
    most = MOST_SUPPLY_BYTES if data[1:2] == _SUPPLY_TAG else MOST_MESSAGE_BYTES
    if len(data) > most:
        raise Malformed(f"a message of {len(data)} bytes", f"At most {most} of its kind are read")
    fields = unpacked(data, text=False)
    if not isinstance(fields, list) or not fields or type(fields[0]) is not int or fields[0] not in _FROM_FIELDS:
        raise Malformed("bytes that are no message of a replica", "Use the same version of Riskswarm on both sides")
    try:
        return _FROM_FIELDS[fields[0]](fields[1:])
    except (TypeError, ValueError, struct.error) as error:
        raise Malformed(
            "a message's fields are not what they should be", "Use the same version on both sides"
        ) from error


def block_fields(block: Block) -> list[Any]:
    """A block's fields for the wire and the log."""
    return [block.epoch, block.view, block.height, block.parent_view, block.parent, list(block.requests)]


def block_of(fields: Any) -> Block:
    """The block of these fields.

    Raises
    ------
    Malformed
        They are none.
    """
    epoch, view, height, parent_view, parent, requests = _fields(fields, 6)
    if not isinstance(requests, list):
        raise Malformed("a block's requests are no list", "Send what `Block` describes")
    return Block(epoch, view, height, parent_view, parent, tuple(requests))


def vote_fields(vote: Vote) -> list[Any]:
    """A vote's fields for the wire and the log."""
    return [int(vote.kind), vote.epoch, vote.view, vote.digest, vote.voter, vote.signature]


def vote_of(fields: Any) -> Vote:
    """The vote of these fields; :class:`Malformed` where they are none."""
    kind, *rest = _fields(fields, 6)
    return Vote(_kind(kind), *rest)


def certificate_fields(certificate: Certificate) -> list[Any]:
    """A certificate's fields for the wire and the log."""
    c = certificate
    return [int(c.kind), c.epoch, c.view, c.digest, [list(pair) for pair in c.signatures]]


def certificate_of(fields: Any) -> Certificate:
    """The certificate of these fields; :class:`Malformed` where they are none."""
    kind, epoch, view, digest, signatures = _fields(fields, 5)
    if not isinstance(signatures, list) or len(signatures) > max(SIZES):
        raise Malformed("a certificate's signatures are no list", "Send what `Certificate` describes")
    pairs = tuple((voter, signature) for voter, signature in (_fields(pair, 2) for pair in signatures))
    return Certificate(_kind(kind), epoch, view, digest, pairs)


def notice_fields(notice: Notice) -> list[Any]:
    """A notice's fields for the wire and for proofs."""
    return [certificate_fields(notice.certificate), notice.voter, notice.signature]


def notice_of(fields: Any) -> Notice:
    """The notice of these fields; :class:`Malformed` where they are none."""
    certificate, voter, signature = _fields(fields, 3)
    _check_signer(voter, signature)
    return Notice(certificate_of(certificate), voter, signature)


def finality_fields(finality: Finality) -> list[Any]:
    """The fields of a proof that a block is decided."""
    return [[block_fields(block) for block in finality.blocks], certificate_fields(finality.certificate)]


def finality_of(fields: Any) -> Finality:
    """The proof of these fields; :class:`Malformed` where they are none."""
    blocks, certificate = _fields(fields, 2)
    if not isinstance(blocks, list) or not 0 < len(blocks) <= MOST_BLOCKS:
        raise Malformed("a proof of finality without blocks", "Send what `Finality` describes")
    return Finality(tuple(map(block_of, blocks)), certificate_of(certificate))


def packed(value: Any) -> bytes:
    """Fields as MessagePack."""
    packed: bytes = msgpack.packb(value, use_bin_type=True)
    return packed


def unpacked(data: bytes, *, text: bool = True) -> Any:
    """What MessagePack says; :class:`Malformed` where it says nothing, or more than anybody has to say.

    Strings are read as bytes where no ``text`` is expected: reading many takes long.
    """
    lists = FEW_LISTS + len(data) // LEAST_LIST_BYTES

    def counted(items: list[Any]) -> list[Any]:
        nonlocal lists
        lists -= 1
        if lists < 0:
            raise ValueError("lists of hardly anything")
        return items

    try:
        return msgpack.unpackb(
            data, raw=not text, list_hook=counted, max_array_len=MOST_ITEMS, max_ext_len=0, max_map_len=0
        )
    except Exception as error:  # msgpack raises what its C code meets, and nothing of that is ours to tell apart
        raise Malformed("bytes that are no MessagePack", "Use the same version of Riskswarm on both sides") from error


def _proposal(fields: list[Any]) -> Proposal:
    block, vote = _fields(fields, 2)
    return Proposal(block_of(block), vote_of(vote))


def _standing(fields: list[Any]) -> Standing:
    epoch, view, height, tip, certificate, voter, nonce, signature = _fields(fields, 8)
    _check_signer(voter, signature)
    if not all(map(is_whole, (epoch, view, height, nonce))) or not is_bytes(tip, DIGEST_BYTES):
        raise Malformed("a standing's numbers are none", "Send what `Standing` describes")
    known = None if certificate is None else certificate_of(certificate)
    return Standing(epoch, view, height, tip, known, voter, nonce, signature)


def _ask(fields: list[Any]) -> Ask:
    height, digests, nonce, view = _fields(fields, 4)
    sound = all(map(is_whole, (height, nonce, view))) and isinstance(digests, list) and len(digests) <= MOST_BLOCKS
    if not sound or not all(is_bytes(digest, DIGEST_BYTES) for digest in digests):
        raise Malformed("a question for blocks names none", "Send what `Ask` describes")
    return Ask(height, tuple(digests), nonce, view)


def _supply(fields: list[Any]) -> Supply:
    final, blocks, certificates = _fields(fields, 3)
    lists = all(isinstance(x, list) for x in (final, blocks, certificates))
    if not lists or max(len(final), len(blocks)) > MOST_BLOCKS or len(certificates) > MOST_CERTIFICATES:
        raise Malformed("a supply of too much, or of nothing known", "Send what `Supply` describes")
    return Supply(
        tuple(map(finality_of, final)), tuple(map(block_of, blocks)), tuple(map(certificate_of, certificates))
    )


def _request(fields: list[Any]) -> Request:
    (body,) = _fields(fields, 1)
    if not isinstance(body, bytes) or not 0 < len(body) <= MOST_REQUEST_BYTES:
        raise Malformed("a request without a body, or too large", f"Give 1 to {MOST_REQUEST_BYTES} bytes")
    return Request(body)


_KINDS: Final = {int(kind): kind for kind in Kind}
_TAGS: Final[dict[type, int]] = {Proposal: 1, Vote: 2, Notice: 3, Standing: 4, Ask: 5, Supply: 6, Request: 7}
_TO_FIELDS: Final[dict[int, Callable[[Any], list[Any]]]] = {
    1: lambda m: [block_fields(m.block), vote_fields(m.vote)],
    2: vote_fields,
    3: notice_fields,
    4: lambda m: [
        m.epoch,
        m.view,
        m.height,
        m.tip,
        None if m.certificate is None else certificate_fields(m.certificate),
        m.voter,
        m.nonce,
        m.signature,
    ],
    5: lambda m: [m.height, list(m.digests), m.nonce, m.view],
    6: lambda m: [
        [finality_fields(f) for f in m.final],
        [block_fields(b) for b in m.blocks],
        [certificate_fields(c) for c in m.certificates],
    ],
    7: lambda m: [m.body],
}
_SUPPLY_TAG: Final = packed(_TAGS[Supply])
_FROM_FIELDS: Final[dict[int, Callable[[list[Any]], Message]]] = {
    1: _proposal,
    2: vote_of,
    3: notice_of,
    4: _standing,
    5: _ask,
    6: _supply,
    7: _request,
}


def _hash(tag: bytes, *parts: bytes) -> bytes:
    digest = hashlib.sha256(b"riskswarm/simplex/" + tag + b"/1\x00")
    for part in parts:
        digest.update(part)
    return digest.digest()


def _fields(value: Any, count: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != count:
        raise Malformed(f"{count} fields were expected", "Use the same version of Riskswarm on both sides")
    return value


def _kind(value: Any) -> Kind:
    kind = _KINDS.get(value) if type(value) is int else None
    if kind is None:
        raise Malformed(f"{value!r} is no kind of vote", f"Known are: {', '.join(kind.name for kind in Kind)}")
    return kind


def _check_subject(kind: Kind, epoch: int, view: int, digest: bytes) -> None:
    counts = is_whole(epoch) and is_whole(view) and view > 0
    sound = isinstance(kind, Kind) and counts and is_bytes(digest, DIGEST_BYTES)
    if not sound or (kind is Kind.NULLIFY) != (digest == NOTHING):
        raise Malformed("a vote's kind, view and digest contradict each other", "Send what `Vote` describes")


def _check_signer(voter: Any, signature: Any) -> None:
    if not is_whole(voter) or voter >= max(SIZES) or not is_bytes(signature, SIGNATURE_BYTES):
        raise Malformed("a signature of nobody", "Send who signed, and the signature")


def is_whole(value: Any) -> bool:
    """Whether something is a number that counts, and not too large for the wire."""
    return type(value) is int and 0 <= value <= LARGEST


def is_bytes(value: Any, length: int) -> bool:
    """Whether something is so many bytes."""
    return type(value) is bytes and len(value) == length
