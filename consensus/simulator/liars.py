"""Faulty replicas: each runs the honest core, and hands of its own change what it says.

They hold their own key and no other, see what they are sent, and may say anything to anybody.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from consensus.simplex.core import Turn
from consensus.simplex.types import (
    NOTHING,
    SIGNATURE_BYTES,
    Block,
    Certificate,
    Committee,
    Kind,
    Message,
    Notice,
    Proposal,
    Standing,
    Supply,
    Vote,
    notice_bytes,
    standing_bytes,
    vote_bytes,
)
from consensus.simulator.keys import Seal
from consensus.simulator.mutations import Mutations, strange_digest
from consensus.simulator.world import Hands, Node

Said = list[tuple[int | None, Message | bytes]]


def signed(seal: Seal, committee: Committee, voter: int, kind: Kind, view: int, digest: bytes) -> Vote:
    """A vote with a genuine signature."""
    signature = seal.sign(vote_bytes(committee.chain, kind, committee.epoch, view, digest))
    return Vote(kind, committee.epoch, view, digest, voter, signature)


def _own(node: Node, kind: Kind, view: int, digest: bytes) -> Vote:
    voter = node.core.voter
    return signed(node.seal, node.core.committee, 0 if voter is None else voter, kind, view, digest)


def _others(node: Node) -> list[int]:
    return [voter for voter in range(len(node.core.committee.keys)) if voter != node.core.voter]


def silent(_generator: random.Random) -> Hands:
    """Says nothing."""
    return lambda node, turn: []


def two_faced_leader(generator: random.Random) -> Hands:
    """Proposes one block to some and another to the rest, and votes for both."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = []
        for to, message in turn.messages:
            if not isinstance(message, Proposal):
                said.append((to, message))
                continue
            block = message.block
            other = replace(block, requests=(b"the other face %d" % block.view,))
            second = Proposal(other, _own(node, Kind.NOTARIZE, block.view, other.digest))
            others = _others(node)
            generator.shuffle(others)
            cut = generator.randint(0, len(others))
            said += [(number, message) for number in others[:cut]] + [(number, second) for number in others[cut:]]
            if generator.random() < 0.3:
                said += [(None, message), (None, second)]
            if generator.random() < 0.5:
                said += [(number, second.vote) for number in others[:cut]] + [(n, message.vote) for n in others[cut:]]
        return said

    return hands


def usurper(generator: random.Random) -> Hands:
    """Proposes in every view, whoever leads it."""
    done: set[tuple[int, int]] = set()

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        core = node.core
        place = core.committee.epoch, core.view
        if place in done or core.voter is None:
            return said
        done.add(place)
        chain = core.chain
        block = Block(*place, chain.height + 1, chain.view, chain.tip, (b"mine, of view %d" % core.view,))
        said.append((None, Proposal(block, _own(node, Kind.NOTARIZE, block.view, block.digest))))
        return said

    return hands


def double_voter(generator: random.Random) -> Hands:
    """Votes for the block to some, and for a block of its fancy to the rest."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = []
        for to, message in turn.messages:
            if isinstance(message, Vote) and message.kind is not Kind.NULLIFY:
                other = _own(node, message.kind, message.view, strange_digest(generator))
                said += [(number, message if generator.random() < 0.5 else other) for number in _others(node)]
            else:
                said.append((to, message))
        return said

    return hands


def waverer(_generator: random.Random) -> Hands:
    """Gives every view up and finalises it as well."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        for _, message in turn.messages:
            if isinstance(message, Vote) and message.kind is Kind.FINALIZE:
                said.append((None, _own(node, Kind.NULLIFY, message.view, NOTHING)))
            if isinstance(message, Vote) and message.kind is Kind.NOTARIZE:
                said.append((None, _own(node, Kind.FINALIZE, message.view, message.digest)))
                said.append((None, _own(node, Kind.NULLIFY, message.view, NOTHING)))
        return said

    return hands


def impersonator(generator: random.Random) -> Hands:
    """Votes in the names of others, with its own signature."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        for _, message in turn.messages:
            if isinstance(message, Vote):
                for victim in _others(node):
                    forged = replace(message, voter=victim)
                    if generator.random() < 0.5 and message.kind is not Kind.NULLIFY:
                        forged = replace(forged, digest=strange_digest(generator))
                    said.append((None, forged))
        return said

    return hands


def replayer(generator: random.Random) -> Hands:
    """Says again what it said long ago."""
    past: deque[Message] = deque(maxlen=256)

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        past.extend(message for _, message in turn.messages)
        if past and generator.random() < 0.3:
            said.append((None, generator.choice(past)))
        return said

    return hands


def nay_sayer(_generator: random.Random) -> Hands:
    """Gives every view up as soon as it hears of it."""
    given_up: set[tuple[int, int]] = set()

    def hands(node: Node, turn: Turn) -> Said:
        place = node.core.committee.epoch, node.core.view
        if place in given_up:
            return []
        given_up.add(place)
        return [(None, _own(node, Kind.NULLIFY, node.core.view, NOTHING))]

    return hands


def favourite_sender(generator: random.Random) -> Hands:
    """Speaks to some only."""
    chosen: list[int] = []

    def hands(node: Node, turn: Turn) -> Said:
        if not chosen or generator.random() < 0.02:
            chosen[:] = generator.sample(_others(node), generator.randint(1, len(_others(node)) - 1))
        return [(number, message) for to, message in turn.messages for number in ([to] if to is not None else chosen)]

    return hands


def slow(generator: random.Random) -> Hands:
    """Says everything some turns later."""
    waiting: deque[tuple[int | None, Message | bytes]] = deque()

    def hands(node: Node, turn: Turn) -> Said:
        waiting.extend(turn.messages)
        return [waiting.popleft() for _ in range(min(len(waiting), generator.randint(0, 3)))]

    return hands


def babbler(generator: random.Random) -> Hands:
    """Sends bytes that mean nothing, and some that are far too many."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        if generator.random() < 0.8:
            return said
        said.append((None, generator.randbytes(generator.randint(0, 300))))
        if generator.random() < 0.01:
            said.append((None, bytes(17 * 2**20)))
        return said

    return hands


def stranger_in_time(generator: random.Random) -> Hands:
    """Votes in epochs that are over or have not begun, and in far views."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        core = node.core
        if generator.random() < 0.8:
            return said
        epoch = core.committee.epoch + generator.choice([-1, 1, 1000])
        if epoch >= 0 and core.voter is not None:
            other = replace(core.committee, epoch=epoch)
            said.append((None, signed(node.seal, other, core.voter, Kind.NULLIFY, core.view, NOTHING)))
        said.append((None, _own(node, Kind.NULLIFY, core.view + generator.choice([1, 5, 63, 10**6]), NOTHING)))
        return said

    return hands


def false_witness(generator: random.Random) -> Hands:
    """Passes on certificates that are none, supplies what does not fit, and boasts of where it stands."""

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = list(turn.messages)
        core = node.core
        if core.voter is None or generator.random() < 0.7:
            return said
        committee = core.committee
        kind = generator.choice(list(Kind))
        digest = NOTHING if kind is Kind.NULLIFY else strange_digest(generator)
        view = core.view + generator.randint(0, 3)
        vote = _own(node, kind, view, digest)
        signatures = tuple((voter, vote.signature) for voter in range(committee.quorum))
        made = Certificate(kind, committee.epoch, view, digest, signatures)
        notice = Notice(made, core.voter, node.seal.sign(notice_bytes(committee.chain, made)))
        height, nonce = core.chain.height + 5, 0
        boast = node.seal.sign(standing_bytes(committee.chain, committee.epoch, view + 9, height, digest, nonce))
        said.append((None, notice))
        said.append((None, Standing(committee.epoch, view + 9, height, digest, made, core.voter, nonce, boast)))
        block = Block(committee.epoch, view, height, max(0, view - 1), strange_digest(generator), (b"never asked for",))
        far = [replace(made, view=view + generator.randint(1, 10**6)) for _ in range(2)]
        said.append((None, Supply((), (block,), (made, *far))))
        return said

    return hands


def mutator(generator: random.Random) -> Hands:
    """Changes what it says a little, to each reader in another way, and signs it anew."""
    mutations = Mutations(generator)

    def hands(node: Node, turn: Turn) -> Said:
        said: Said = []
        for to, message in turn.messages:
            if generator.random() < 0.3:
                said += [
                    (number, mutations.of(node, message)) for number in ([to] if to is not None else _others(node))
                ]
            else:
                said.append((to, message))
        return said

    return hands


def forger(_generator: random.Random) -> Hands:
    """Gives every view up in everybody's name, its leader's first, with signatures that are none."""

    def hands(node: Node, turn: Turn) -> Said:
        core = node.core
        c, leader = core.committee, core.committee.leader(core.view)
        named = sorted(range(len(c.keys)), key=lambda voter: voter != leader)
        forged = [Vote(Kind.NULLIFY, c.epoch, core.view, NOTHING, voter, bytes(SIGNATURE_BYTES)) for voter in named]
        return [*((None, vote) for vote in forged), *turn.messages]

    return hands


LIARS: dict[str, Callable[[random.Random], Hands]] = {
    maker.__name__: maker
    for maker in (
        silent,
        two_faced_leader,
        usurper,
        double_voter,
        waverer,
        impersonator,
        replayer,
        nay_sayer,
        favourite_sender,
        slow,
        babbler,
        stranger_in_time,
        false_witness,
        mutator,
        forger,
    )
}
"""By name; each takes a generator of its own."""
