"""The world: a clock that jumps from event to event, a network that misbehaves by seed, disks, and replicas that crash.

A replica takes one event at a time. What its core wants durable goes to its disk first, which takes its time; a crash
meanwhile loses what was under way, whole or in part, and nothing of that turn is sent. A liar is a replica whose
messages pass through hands that change them (:mod:`consensus.simulator.liars`).
"""

from __future__ import annotations

import hashlib
import heapq
import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from consensus.simplex.chain import Application
from consensus.simplex.core import Core, Record, Timing, Turn
from consensus.simplex.crypto import Verify
from consensus.simplex.types import (
    Certificate,
    Change,
    Committee,
    Kind,
    Malformed,
    Message,
    Notice,
    Vote,
    decode,
    encode,
)
from consensus.simulator.judge import Foul, Judge
from consensus.simulator.keys import KeyRing, Seal

MS = 1_000_000
MOST_EVENTS = 1_000
"""For each triple of nodes, as all may tell all what each has told: some eight times what the worst of liars cause."""
SPITE = 0.95
LIARS_BREATH = 20
"""Messages of a liar at once, and one more a millisecond: two could else keep each other busy for ever."""
STRANGER = 1000
"""Added to the number of a node that is no voter, where a voter's is asked for."""
CHANGE = b"change "
REWORDED = b", in other words"
"""Two requests that differ in what follows are about the same."""


@dataclass(frozen=True)
class Weather:
    """How the network and the disks behave, until all is well again."""

    delay_ms: tuple[float, float] = (0.1, 2.0)
    """Shortest and longest delay of a message."""
    loss: float = 0.0
    """Share of messages that never arrive."""
    twice: float = 0.0
    """Share that arrive twice."""
    late: float = 0.0
    """Share that take up to fifty times as long."""
    disk_ms: tuple[float, float] = (0.0, 0.2)
    """Shortest and longest time of a sync."""
    drift: float = 0.0
    """Largest deviation of a replica's clock, as a share."""


CALM = Weather()


class Machine:
    """What is decided about in simulations: any request is valid that does not say otherwise."""

    def valid(self, body: bytes) -> bool:
        """Whether it may be decided."""
        return not body.startswith(b"invalid")

    def change(self, body: bytes) -> Change | None:
        """``change``, how many voters, their public keys and the numbers of those in quarantine are one."""
        if not body.startswith(CHANGE):
            return None
        members = body[len(CHANGE) :]
        end = 1 + 32 * members[0]
        return Change(tuple(members[i : i + 32] for i in range(1, end, 32)), frozenset(members[end:]))

    def subject(self, body: bytes) -> bytes:
        """What stands before :data:`REWORDED`, if that is there."""
        return hashlib.sha256(body.partition(REWORDED)[0]).digest()


def change_body(keys: tuple[bytes, ...], quarantined: frozenset[int] = frozenset()) -> bytes:
    """A request to change the committee, as :class:`Machine` reads it."""
    return CHANGE + bytes([len(keys)]) + b"".join(keys) + bytes(sorted(quarantined))


Decided = Callable[[Callable[[], Sequence[Committee]], Verify], Application]
"""Makes what one replica decides about, of its chain's committees, the present epoch's last, and a check of
signatures."""
Hands = Callable[["Node", Turn], list[tuple[int | None, Message | bytes]]]
"""What a liar does with a turn: what is sent instead."""


@dataclass
class Node:
    """One replica and its disk."""

    number: int
    """Of the node, for ever; its voter's number may change with the epoch."""
    seal: Seal
    core: Core
    hands: Hands | None = None
    rate: float = 1.0
    disk: list[Record] = field(default_factory=list)
    alive: bool = True
    life: int = 0
    busy_until: int = 0
    wake_at: int = 0
    nonce: int = 0
    recovered: tuple[int, int] | None = None
    """Both of a node that lost its disk; it keeps them on the new one."""
    breath: tuple[int, float] = (0, 0.0)
    """Of a liar: when it spoke last, and how much it could still say then."""

    def decided(self, body: bytes) -> int | None:
        """Height at which it knows a request, or one about the same, to be decided."""
        return self.core.decided(body)


class World:
    """A committee and its surroundings.

    Parameters
    ----------
    nodes : int
        Voters of the first epoch; ``spare`` more know of the committee and may be voted in.
    liars : dict
        What each faulty node does, by number.
    twins : sequence of int
        Nodes that live a second time, with the same key and a disk of their own, as further nodes; liars, all of them.
    application : callable
        Makes what each life of a node decides about.
    """

    def __init__(
        self,
        seed: int,
        *,
        nodes: int = 4,
        spare: int = 0,
        weather: Weather = CALM,
        timing: Timing | None = None,
        liars: dict[int, Hands] | None = None,
        twins: Sequence[int] = (),
        core: type[Core] = Core,
        wire: bool = False,
        application: Decided = lambda _committees, _check: Machine(),
    ) -> None:
        self.random, self._rumours = random.Random(seed), random.Random(f"rumours {seed}")
        self.weather, self.timing, self._core, self._wire = weather, timing or Timing(), core, wire
        self.ring, self._application = KeyRing(), application
        seals = [self.ring.make(b"%d of %d" % (number, seed)) for number in range(nodes + spare)]
        seals += [seals[number] for number in twins]
        self.committee = Committee.founded(tuple(seal.public for seal in seals[:nodes]), b"%d" % seed)
        self.now = 0
        self._events: list[tuple[int, int, Callable[[], None]]] = []
        self._counter = 0
        self.cut: Callable[[int, int], bool] | None = None
        """Whether nothing gets through from one node to another; None lets all through."""
        self.spite: Kind | None = None
        """Kind of votes and certificates that hardly ever arrive."""
        self.sent = self.handled = 0
        self._disks_lost: set[int] = set()
        self.trace: list[tuple[Any, ...]] | None = None
        liars = dict(liars or {})
        for second, number in enumerate(twins, nodes + spare):
            liars[number] = liars[second] = _unchanged
        self.judge = Judge(
            self.committee,
            self.ring.verify,
            application(lambda: (), self.ring.verify).subject,
            frozenset(liars),
            {seal.public: n for n, seal in enumerate(seals)},
        )
        self.nodes = [Node(number, seal, self._life(seal, []), liars.get(number)) for number, seal in enumerate(seals)]
        for node in self.nodes:
            node.rate = 1 + self.weather.drift * self.random.uniform(-1, 1)
            self._schedule_turn(node, node.core.begin())

    @property
    def honest(self) -> Iterator[Node]:
        """Nodes that do as they should."""
        return (node for node in self.nodes if node.hands is None)

    def submit(self, number: int, body: bytes) -> None:
        """Ask a node for a decision."""
        node = self.nodes[number]
        if node.alive:
            turn = node.core.submit([body], self._clock(node))
            self._schedule_turn(node, turn or Turn())

    def run(self, until_ms: float, *, stop: Callable[[], bool] | None = None) -> bool:
        """Let time pass, to a moment or until something is true; whether it is."""
        until = int(until_ms * MS)
        while self._events and self._events[0][0] <= until:
            if self.handled > MOST_EVENTS * len(self.nodes) ** 3:
                raise Foul(f"after {self.handled} events the committee does not come to rest")
            self.now, _, event = heapq.heappop(self._events)
            event()
            if stop is not None and stop():
                return True
        self.now = max(self.now, until)
        return stop is None or stop()

    def at(self, when_ms: float, event: Callable[[], None]) -> None:
        """Let something happen at a moment."""
        self._push(int(when_ms * MS), event)

    def crash(self, number: int) -> None:
        """End a node's process, now; some others hear of that, maybe when it is back already."""
        node = self.nodes[number]
        node.alive = False
        node.life += 1
        for other in self.nodes:
            if other is not node and self._rumours.random() < 0.5:
                self._push(
                    self.now + int(self._rumours.uniform(0, 30) * MS), partial(self.tell_of_loss, other.number, number)
                )

    def tell_of_loss(self, number: int, lost: int) -> None:
        """Tell a node that another's process has ended, true or not."""
        node = self.nodes[number]
        if node.alive:
            self._deliver(node, lambda: node.core.lost(self._called(node, lost), self._clock(node)), node.life)

    def restart(self, number: int, *, with_disk: bool = True) -> None:
        """Start a node again, with what its disk has; without, it must not know what it voted."""
        node = self.nodes[number]
        if node.alive:
            self.crash(number)
        if not with_disk:
            node.disk = []
            self._disks_lost.add(number)
            node.nonce, node.recovered = self.random.getrandbits(62) + 1, None
        node.alive, node.busy_until = True, self.now
        node.life += 1
        node.core = self._life(node.seal, node.disk, node)
        turn = node.core.begin()  # may announce what was certified and not yet announced
        height = node.core.chain.height - len(turn.decisions)
        self.judge.restarted(node.number, height, kept_its_disk=with_disk)
        self._schedule_turn(node, turn)

    def heal(self) -> None:
        """From now on the network loses nothing and the disks are quick."""
        self.cut, self.spite, self.weather = None, None, CALM

    def all_decided(self, bodies: list[bytes], voters: list[int] | None = None) -> bool:
        """Whether every honest living node has decided all of these."""
        chosen = voters if voters is not None else [node.number for node in self.honest if node.alive]
        return all(self.nodes[number].decided(body) is not None for number in chosen for body in bodies)

    def _life(self, seal: Seal, disk: list[Record], node: Node | None = None) -> Core:
        now = self._clock(node) if node is not None else 0
        core = self._core(
            self.committee,
            seal,
            self._application(lambda: core.chain.committees, self.ring.verify),
            self.timing,
            log=list(disk),
            now_ns=now,
            nonce=node.nonce if node is not None else 0,
            recovered=node.recovered if node is not None else None,
            check=self.ring.verify,
        )
        return core

    def _clock(self, node: Node) -> int:
        return int(self.now * node.rate)

    def _push(self, when: int, event: Callable[[], None]) -> None:
        self._counter += 1
        heapq.heappush(self._events, (when, self._counter, event))

    def _schedule_turn(self, node: Node, turn: Turn) -> None:
        """Bring a turn's records to disk, then send; and note when the core wants to be woken."""
        life = node.life
        if turn.records:
            low, high = self.weather.disk_ms
            node.busy_until = max(node.busy_until, self.now) + int(self.random.uniform(low, high) * MS)

            def synced() -> None:
                if node.life == life:
                    node.disk += turn.records
                    self._send(node, turn)
                elif node.disk is disk and node.life == life + 1 and not node.alive:
                    # It died meanwhile: any beginning of what it wrote may be there, and nothing behind it.
                    node.disk = disk + turn.records[: self.random.randint(0, len(turn.records))]

            disk = node.disk
            self._push(node.busy_until, synced)
        else:
            self._push(max(node.busy_until, self.now), lambda: self._send(node, turn) if node.life == life else None)
        self._set_alarm(node)

    def _set_alarm(self, node: Node) -> None:
        life, due = node.life, int(node.core.next_wake / node.rate) + 1
        node.wake_at = due

        def ring() -> None:
            if node.life == life and node.alive and node.wake_at == due:
                self._deliver(node, lambda: node.core.wake(self._clock(node)), life)

        self._push(max(due, self.now), ring)

    def _send(self, node: Node, turn: Turn) -> None:
        if node.nonce:
            node.recovered = node.core.recovered
            node.nonce = 0 if node.core.whole else node.nonce
        if node.hands is None:
            self.judge.turn(node.number, node.core, turn)
            for decision in turn.decisions:
                self._judge_durability(decision.finality.certificate)
        outgoing: list[tuple[int | None, Message | bytes]] = list(turn.messages)
        if node.hands is not None:
            outgoing = node.hands(node, turn)
            last, left = node.breath
            left = min(LIARS_BREATH, left + (self.now - last) / MS)
            outgoing = outgoing[: int(left)]
            node.breath = self.now, left - len(outgoing)
        for to, message in outgoing:
            targets = self._numbers(node) if to is None else self._meant(node, to)
            for target in targets:
                if target != node.number:
                    self._transmit(node.number, target, message)

    def _judge_durability(self, certificate: Certificate) -> None:
        """What is decided rests on votes that are on the disks of the honest who cast them, unless a disk was lost."""
        keys = self.judge.checkers[certificate.epoch].committee.keys
        for voter, _ in certificate.signatures:
            node = next(node for node in self.nodes if node.seal.public == keys[voter])
            kept = node.hands is None and node.number not in self._disks_lost
            cast = (certificate.kind, certificate.epoch, certificate.view, certificate.digest)
            if kept and not any(
                isinstance(record, Vote) and (record.kind, record.epoch, record.view, record.digest) == cast
                for record in reversed(node.disk)
            ):
                raise Foul(f"node {node.number} has no vote of its own on its disk that made {certificate}")

    def _numbers(self, node: Node) -> list[int]:
        """Everybody: spare nodes listen too."""
        return [other.number for other in self.nodes if other is not node]

    def _called(self, node: Node, other: int) -> int:
        """What a node calls another: its voter's number in the epoch that the node is in, or one that no voter has."""
        keys, public = node.core.committee.keys, self.nodes[other].seal.public
        return keys.index(public) if public in keys else STRANGER + other

    def _meant(self, node: Node, called: int) -> list[int]:
        """Whom a node means: twins have one number."""
        keys = node.core.committee.keys
        if called >= len(keys):
            return [called - STRANGER]
        return [other.number for other in self.nodes if other.seal.public == keys[called]]

    def _transmit(self, source: int, target: int, message: Message | bytes) -> None:
        self.sent += 1
        if self.cut is not None and self.cut(source, target):
            return
        w = self.weather
        if self.random.random() < (SPITE if self.spite is not None and _kind_of(message) is self.spite else w.loss):
            return
        for _ in range(2 if self.random.random() < w.twice else 1):
            delay = self.random.uniform(*w.delay_ms)
            if self.random.random() < w.late:
                delay *= self.random.uniform(1, 50)
            self._push(self.now + int(delay * MS), lambda: self._arrive(source, target, message))

    def _arrive(self, source: int, target: int, message: Message | bytes) -> None:
        node = self.nodes[target]
        if not node.alive:
            return
        if self._wire and not isinstance(message, bytes):
            message = encode(message)
        if isinstance(message, bytes):
            try:
                message = decode(message)
            except Malformed:
                return
        known: Message = message
        self._deliver(node, lambda: node.core.handle(self._called(node, source), known, self._clock(node)), node.life)

    def _deliver(self, node: Node, event: Callable[[], Turn], life: int) -> None:
        """Now, or when the disk lets go of the replica."""
        if node.busy_until > self.now:
            self._push(node.busy_until, lambda: self._deliver(node, event, life))
            return
        if not node.alive or node.life != life:
            return
        self.handled += 1
        turn = event()
        if self.trace is not None:
            self.trace.append((self.now, node.number, node.core.view, node.core.chain.height, len(turn.messages)))
        self._schedule_turn(node, turn)


def _kind_of(message: Message | bytes) -> Kind | None:
    if isinstance(message, Vote):
        return message.kind
    return message.certificate.kind if isinstance(message, Notice) else None


def _unchanged(_node: Node, turn: Turn) -> list[tuple[int | None, Message | bytes]]:
    return list(turn.messages)
