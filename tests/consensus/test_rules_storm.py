"""Storms in which the committee decides by its real rules: motions with signed ballots, and all that is none.

By seed: weather, liars, crashes and partitions, and in between motions of every direction, numbers, changes of members,
proofs of misconduct, and requests that no rule lets pass, some proposed by a leader. Clients do as real ones: they ask
again, with ballots of the epoch that it is by then.
"""

from __future__ import annotations

import os
import random
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial

import pytest

from consensus import ballots
from consensus.ballots import Ballot, Choice, Estimated, Moved, Quarantine
from consensus.motions import KINDS, MEMBERSHIP, NUMBER, Direction, Motion, membership, motion_fields, question
from consensus.rules import Outcome, Rules, culprit_key, needed, outcome
from consensus.simplex.core import Core, Timing, Turn
from consensus.simplex.proofs import ConflictingVotes, Proof
from consensus.simplex.types import Committee, Kind, Message, Proposal, Request, packed
from consensus.simulator.keys import Seal
from consensus.simulator.liars import LIARS, Said, signed
from consensus.simulator.world import MS, Hands, Node, Weather, World

SEEDS = int(os.environ.get("RISKSWARM_STORM_SEEDS", "12"))
FIRST = int(os.environ.get("RISKSWARM_STORM_FIRST", "0"))
STORM_MS = 2000.0
ROUND_MS = 2000.0
ROUNDS = 12
"""In which clients ask again, once there is peace."""
FAR_NS = 2**62
TIMING = Timing(standing_ns=200 * MS)


class Assembly:
    """A committee that decides by the rules, in a storm, and what is moved there."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(f"rules {seed}")
        self.size = chance.choice([4, 4, 7])
        self.faults = (self.size - 1) // 3
        names = chance.choices(["smuggler", *LIARS], weights=[len(LIARS), *[1] * len(LIARS)], k=self.faults)
        self.liars = dict(zip(chance.sample(range(self.size), chance.randint(0, self.faults)), names, strict=False))
        weather = Weather(
            delay_ms=(0.1, chance.choice([1.0, 5.0, 15.0])),
            loss=chance.choice([0.0, 0.02, 0.1]),
            twice=chance.choice([0.0, 0.1]),
            disk_ms=(0.0, chance.choice([0.1, 3.0])),
        )
        hands = {number: self._hands(name, seed * 100 + number) for number, name in self.liars.items()}
        self.world = World(
            seed, nodes=self.size, spare=1, weather=weather, timing=TIMING, liars=hands, application=Rules
        )
        self.seals: dict[bytes, Seal] = {node.seal.public: node.seal for node in self.world.nodes}
        self.moved: dict[bytes, tuple[Motion, Outcome]] = {}
        """What is to be decided, and how, by id."""
        self.accused: list[Proof] = []
        """Proofs that are to silence whom they are against."""
        self.unsound: set[bytes] = set()
        """Requests that must never be decided."""
        self.smuggled = 0
        self._known: dict[int, tuple[int, dict[bytes, list[int]]]] = {}

    @property
    def honest(self) -> list[int]:
        return [number for number in range(self.size) if number not in self.liars]

    # What is asked.

    def motion(self) -> None:
        """Somebody moves something at some moment; now and then the same comes with other ballots elsewhere."""
        direction = self.chance.choice(list(Direction))
        kinds = [kind for kind, does in KINDS.items() if does is direction and kind != MEMBERSHIP]
        kind = self.chance.choice(kinds)
        payload = question("how much", 1.0) if kind == NUMBER else self.chance.randbytes(8)
        outcome = Outcome.APPROVED
        if kind == NUMBER:
            outcome = Outcome.AGREED
        elif direction is not Direction.REDUCE and self.chance.random() < 0.3:
            outcome = Outcome.REJECTED
        moved = self._made(kind, payload)
        self.moved[moved.id] = moved, outcome
        for _ in range(self.chance.choice([1, 1, 2])):
            self._sometime(partial(self.ask, self.chance.choice(self.honest), moved.id))

    def membership(self) -> None:
        """The spare takes a voter's place, or the voters' numbers change."""
        keys = [node.seal.public for node in self.world.nodes[: self.size]]
        if self.chance.random() < 0.5:
            keys[self.chance.randrange(self.size)] = self.world.nodes[self.size].seal.public
        else:
            self.chance.shuffle(keys)
        moved = self._made(MEMBERSHIP, membership(keys))
        self.moved[moved.id] = moved, Outcome.APPROVED
        self._sometime(partial(self.ask, self.chance.choice(self.honest), moved.id))

    def accusation(self, liar: int) -> None:
        """Somebody has two votes of a liar that contradict each other."""
        first, second = (
            signed(self.world.nodes[liar].seal, self.world.committee, liar, Kind.NOTARIZE, 1, bytes([1]) * 31 + end)
            for end in (b"\1", b"\2")
        )
        self.accused.append(ConflictingVotes(first, second))
        self._sometime(partial(self.accuse, self.chance.choice(self.honest), self.accused[-1]))

    def nonsense(self) -> None:
        """Somebody asks for what cannot be decided."""

        def ask(number: int) -> None:
            if self.world.nodes[number].alive:
                self.world.submit(number, self.refused(self.world.nodes[number].core.committee))

        self._sometime(partial(ask, self.chance.choice(self.honest)))

    def ask(self, number: int, identity: bytes) -> None:
        """A client asks a node, with ballots of the epoch that the node is in."""
        node = self.world.nodes[number]
        if node.alive:
            self.world.submit(number, self.sound(node.core.committee, *self.moved[identity]))

    def accuse(self, number: int, proof: Proof) -> None:
        """A node is asked to have a liar silenced, unless it knows that this is done."""
        core = self.world.nodes[number].core
        if self.world.nodes[number].alive and not self.silenced(core, proof):
            present = core.committee
            culprit = present.keys.index(culprit_key(proof, core.chain.committees))
            asked = Quarantine(proof, present.keys, present.quarantined | {culprit})
            self.world.submit(number, ballots.encode(asked))

    def sound(self, committee: Committee, moved: Motion, outcome: Outcome) -> bytes:
        """A request that the rules let pass in this epoch; its ballots are anybody's."""
        counted = [voter for voter in range(len(committee.keys)) if committee.counts(voter)]
        enough = {
            Outcome.APPROVED: needed(moved.direction, committee),
            Outcome.REJECTED: committee.faults + 1,
            Outcome.AGREED: committee.quorum,
        }[outcome]
        voters = sorted(self.chance.sample(counted, self.chance.randint(enough, len(counted))))
        if outcome is Outcome.AGREED:
            given = [
                ballots.estimate(self._seal(committee, voter), committee, moved, self.chance.uniform(0, 4))
                for voter in voters
            ]
            return ballots.encode(Estimated(committee.epoch, moved, tuple(given)))
        choice = Choice.REJECT if outcome is Outcome.REJECTED else Choice.APPROVE
        return ballots.encode(Moved(committee.epoch, moved, self._ballots(committee, moved, voters, choice)))

    def refused(self, committee: Committee) -> bytes:
        """A request that the rules never let pass."""
        chance, epoch, f = self.chance, committee.epoch, committee.faults
        moved = self._made("raise_limit", chance.randbytes(8))
        counted = [voter for voter in range(len(committee.keys)) if committee.counts(voter)]
        voters = counted[: committee.quorum]
        given = self._ballots(committee, moved, voters)
        sound = ballots.encode(Moved(epoch, moved, given))
        elsewhere = self._ballots(committee, self._made("note", b""), voters)
        moot = self._made(MEMBERSHIP, membership(committee.keys[::-1]))
        against = self._ballots(committee, moot, counted[: f + 1], Choice.REJECT)
        vote = signed(self._seal(committee, 0), committee, 0, Kind.NOTARIZE, 1, bytes([1]) * 32)
        other = replace(vote, digest=bytes([2]) * 32)
        fields = [motion_fields(moved), [[b.voter, int(b.choice), b.reason, b.signature] for b in given]]
        silent = [MEMBERSHIP, membership(committee.keys, range(f + 1)), *fields[0][2:]]  # too many are
        makers: list[Callable[[], bytes]] = [
            lambda: chance.randbytes(chance.randint(1, 200)),
            lambda: sound[: chance.randrange(1, len(sound))],
            lambda: sound + b"\xc0",
            lambda: b"\xdc\x00\x04" + sound[1:],  # the same fields, with a longer head
            lambda: packed([1, float(epoch), *fields]),
            lambda: packed([True, epoch, *fields]),
            lambda: packed([1, epoch + 2**40, *fields]),
            lambda: packed([2, epoch, *fields]),
            lambda: packed([1, epoch, *fields, []]),
            lambda: ballots.encode(Moved(epoch, moved, given[:-1])),
            lambda: ballots.encode(Moved(epoch, moved, given[::-1])),
            lambda: ballots.encode(Moved(epoch, moved, (given[0], *given[:-1]))),
            lambda: ballots.encode(Moved(epoch, moved, elsewhere)),
            lambda: ballots.encode(Moved(epoch, moved, (*given[:-1], replace(given[-1], choice=Choice.ABSTAIN)))),
            lambda: packed([1, epoch, silent, fields[1]]),
            lambda: ballots.encode(Moved(epoch, moot, against)),
            lambda: ballots.encode(Quarantine(ConflictingVotes(vote, other), committee.keys, frozenset({0}))),
            lambda: ballots.encode(Quarantine(ConflictingVotes(vote, vote), committee.keys, frozenset({0}))),
        ]
        body = chance.choice(makers)()
        self.unsound.add(body)
        return body

    # What becomes of it.

    def decided(self, core: Core, number: int) -> dict[bytes, list[int]]:
        """Heights of everything that a node has decided, by id."""
        height, found = self._known.get(number, (0, {}))
        for above in range(height + 1, core.chain.height + 1):
            for request in core.chain.block(above).requests:
                found.setdefault(ballots.identity(ballots.decode(request)), []).append(above)
        self._known[number] = max(height, core.chain.height), found
        return found

    def silenced(self, core: Core, proof: Proof) -> bool:
        """Whether a node knows that nothing is left to be done about whom a proof is against."""
        key = culprit_key(proof, core.chain.committees)
        once = any(key in {known.keys[voter] for voter in known.quarantined} for known in core.chain.committees)
        return once or key not in core.committee.keys

    def at_rest(self) -> bool:
        """Whether every honest node has decided everything."""
        cores = {node.number: node.core for node in self.world.honest}
        return all(
            self.moved.keys() <= self.decided(core, number).keys()
            and all(self.silenced(core, proof) for proof in self.accused)
            for number, core in cores.items()
        )

    def run(self) -> None:
        """Storm, then peace, in which clients ask on until they are answered."""
        for _ in range(self.chance.randint(4, 24)):
            self.motion()
            self.nonsense()
        for _ in range(self.chance.choice([0, 0, 1, 2])):
            self.membership()
        for liar in self.liars:
            if self.chance.random() < 0.5:
                self.accusation(liar)
        self._crashes()
        self._partitions()
        self.world.run(STORM_MS)
        self.world.heal()
        for node in self.world.nodes:
            if not node.alive:
                self.world.restart(node.number)
        for _ in range(ROUNDS):
            for identity in self.moved:
                late = [n for n in self.honest if identity not in self.decided(self.world.nodes[n].core, n)]
                if late:
                    self.ask(self.chance.choice(self.honest), identity)
            for proof in self.accused:
                self.accuse(self.chance.choice(self.honest), proof)
            if self.world.run(self.world.now / MS + ROUND_MS, stop=self.at_rest):
                break

    def _crashes(self) -> None:
        """Of so few that with the liars no more than f are ever away."""
        for number in self.honest[: self.faults - len(self.liars)]:
            at_ms = self.chance.uniform(0, STORM_MS / 4)
            for _ in range(self.chance.randint(1, 5)):
                self.world.at(at_ms, partial(self.world.crash, number))
                at_ms += self.chance.choice([1, 20, 300]) * self.chance.random()
                self.world.at(at_ms, partial(self.world.restart, number))
                at_ms += self.chance.uniform(0, STORM_MS / 8)

    def _partitions(self) -> None:
        for _ in range(self.chance.randint(0, 3)):
            begin, length = self.chance.uniform(0, STORM_MS), self.chance.uniform(10, 500)
            side = frozenset(self.chance.sample(range(self.size), self.chance.randint(1, self.size - 1)))
            self.world.at(begin, partial(setattr, self.world, "cut", lambda a, b, s=side: (a in s) != (b in s)))
            self.world.at(begin + length, partial(setattr, self.world, "cut", None))

    def _hands(self, name: str, seed: int) -> Hands:
        return self.smuggler if name == "smuggler" else LIARS[name](random.Random(seed))

    def smuggler(self, node: Node, turn: Turn) -> Said:
        """Faulty: puts what cannot be decided into its blocks, and tells others of it."""
        said: Said = []
        core = node.core
        for to, message in turn.messages:
            changed: Message = message
            if isinstance(message, Proposal) and core.voter is not None and self.chance.random() < 0.5:
                wrong = self.refused(core.committee)
                requests = (wrong, *message.block.requests) if self.chance.random() < 0.5 else (wrong,)
                block = replace(message.block, requests=requests)
                vote = signed(node.seal, core.committee, core.voter, Kind.NOTARIZE, block.view, block.digest)
                changed = Proposal(block, vote)
                said.append((None, Request(wrong)))
                self.smuggled += 1
            said.append((to, changed))
        return said

    def _made(self, kind: str, payload: bytes) -> Motion:
        return Motion(kind, payload, FAR_NS, (), "a client", self.chance.randbytes(16))

    def _ballots(
        self, committee: Committee, moved: Motion, voters: Sequence[int], choice: Choice = Choice.APPROVE
    ) -> tuple[Ballot, ...]:
        """Those who are asked other things at the same time sign all of it together, and need not be asked the same."""
        given: list[Ballot] = []
        for voter in voters:
            said = [(self._made("note", b"another"), choice, "") for _ in range(self.chance.choice([0, 0, 3]))]
            place = self.chance.randint(0, len(said))
            said.insert(place, (moved, choice, "its reason"))
            given.append(ballots.ballots_on(said, self._seal(committee, voter), committee)[place])
        return tuple(given)

    def _seal(self, committee: Committee, voter: int) -> Seal:
        return self.seals[committee.keys[voter]]

    def _sometime(self, event: Callable[[], None]) -> None:
        self.world.at(self.chance.uniform(0, STORM_MS), event)


def stormed(seed: int) -> Assembly:
    """An assembly after its storm, of which all that must hold does."""
    assembly = Assembly(seed)
    assembly.run()  # agreement is judged at every turn
    cores = {node.number: node.core for node in assembly.world.honest}
    assert assembly.at_rest(), f"seed {seed}: { {n: len(assembly.decided(c, n)) for n, c in cores.items()} }"
    core = max(cores.values(), key=lambda one: one.chain.height)
    check = assembly.world.ring.verify
    first: dict[bytes, Outcome] = {}
    for height in range(1, core.chain.height + 1):
        block = core.chain.block(height)
        known = core.chain.committees[: block.epoch + 1]
        for request in block.requests:
            assert request not in assembly.unsound, f"seed {seed}: height {height}"
            assert Rules(lambda known=known: known, check).fault(request) is None, f"seed {seed}: height {height}"
            asked = ballots.decode(request)
            if not isinstance(asked, Quarantine):
                assert asked.motion.id not in first, f"seed {seed}: decided again at height {height}"
                first[asked.motion.id] = outcome(asked, known[-1], check)
    assert first == {identity: outcome for identity, (_, outcome) in assembly.moved.items()}, f"seed {seed}"
    return assembly


@pytest.mark.timeout(3600)
@pytest.mark.parametrize("seed", range(FIRST, FIRST + SEEDS))
def test_every_sound_motion_is_decided_alike_by_all_and_nothing_else_is(seed: int) -> None:
    stormed(seed)


def test_the_storms_reach_what_they_are_for() -> None:
    found = [stormed(seed) for seed in range(9000, 9008)]
    outcomes = {outcome for assembly in found for _, outcome in assembly.moved.values()}
    cores = [max((node.core for node in one.world.honest), key=lambda core: core.chain.height) for one in found]
    assert outcomes == {Outcome.APPROVED, Outcome.REJECTED, Outcome.AGREED}
    assert any(core.committee.quarantined for core in cores)
    assert any(core.committee.epoch > 1 for core in cores)
    assert any(core.nullified_views for core in cores)
    assert any(one.smuggled for one in found)
    assert sum(len(one.unsound) for one in found) > 50
