"""One seeded run: weather, liars, crashes, partitions and changes by chance, then peace, in which all must end well."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from consensus.simplex.core import AHEAD, Core, Timing
from consensus.simplex.types import Kind
from consensus.simulator.judge import Foul
from consensus.simulator.liars import LIARS
from consensus.simulator.world import MS, REWORDED, Weather, World, change_body

STORM_MS = 3000.0
PEACE_MS = 20_000.0
UNLUCKY_VIEWS = 2
"""That may fail in peace beside the turns of f liars: one that was half given up before, and one that a rumour ends."""
MOST_KEPT_VIEWS = AHEAD + 16
TIMING = Timing(standing_ns=200 * MS)


@dataclass(frozen=True)
class Outcome:
    """What became of a run."""

    seed: int
    liars: dict[int, str]
    decided: int
    views: int
    nullified: int
    failed: int
    """Views that failed in peace before all was decided, as seen by the honest replica that was furthest."""
    epochs: int
    handled: int
    accused: tuple[int, ...]


@dataclass
class _Storm:
    """A committee, what is asked of it, and the chance by which things happen to it."""

    world: World
    chance: random.Random
    size: int
    liars: dict[int, str]
    until_ms: float
    words: random.Random
    """Its own chance, so that nothing else depends on what is asked twice."""
    power: random.Random
    """Another chance of its own."""
    fate: random.Random
    """And another one."""
    asked: list[bytes] = field(default_factory=list)
    gone: set[int] = field(default_factory=set)
    """Nodes that are not there in peace."""

    @property
    def honest(self) -> list[int]:
        return [number for number in range(self.size) if number not in self.liars]

    @property
    def faults(self) -> int:
        return (self.size - 1) // 3

    def ask(self, number: int, body: bytes) -> None:
        """Ask a node for a decision, if it lives; a client that was accepted asks on until it is answered."""
        if self.world.nodes[number].alive:
            self.asked.append(body)
            self.world.submit(number, body)

    def requests(self) -> None:
        for i in range(self.chance.randint(1, 30)):
            self._soon(self.ask, b"request %d" % i)
            if self.words.random() < 0.3:
                at, number = self.words.uniform(0, self.until_ms), self.words.choice(self.honest)
                self.world.at(at, partial(self.ask, number, b"request %d%s" % (i, REWORDED)))
        if self.chance.random() < 0.3:
            self._soon(self.world.submit, b"invalid")

    def partitions(self) -> None:
        everybody = range(len(self.world.nodes))
        for _ in range(self.chance.randint(0, 4)):
            begin, length = self.chance.uniform(0, self.until_ms), self.chance.uniform(10, 800)
            side = frozenset(self.chance.sample(everybody, self.chance.randint(1, self.size)))
            self.world.at(begin, partial(self._part, side))
            self.world.at(begin + length, partial(setattr, self.world, "cut", None))

    def spite(self) -> None:
        """Now and then one kind of message hardly gets through: that is when rules meet that rarely do."""
        for _ in range(self.chance.choice([0, 0, 1, 3])):
            begin, kind = self.chance.uniform(0, self.until_ms), self.chance.choice(list(Kind))
            self.world.at(begin, partial(setattr, self.world, "spite", kind))
            self.world.at(begin + self.chance.uniform(50, 500), partial(setattr, self.world, "spite", None))

    def gale(self) -> None:
        """Now and then hardly anything gets through as peace begins: each is left with news of its own."""
        loss = self.fate.choice([None, None, 0.5, 0.7, 0.9])
        if loss is not None:
            begin = self.until_ms - self.fate.uniform(20, 600)
            self.world.at(begin, partial(setattr, self.world, "weather", replace(self.world.weather, loss=loss)))
            for i in range(3):
                when, number = self.fate.uniform(begin, self.until_ms), self.fate.choice(self.honest)
                self.world.at(when, partial(self.ask, number, b"in the gale, %d" % i))

    def crashes(self) -> None:
        """Of honest nodes, so few that with the liars no more than f ever are away or have lost their disk."""
        for number in self._may_be_away():
            begin = self.chance.uniform(0, self.until_ms / 4)
            for _ in range(self.chance.choice([0, 1, 1, 8])):
                self.world.at(begin, partial(self.world.crash, number))
                begin += self.chance.choice([1, 20, 500]) * self.chance.random()
                keeps = self.chance.random() < 0.9
                self.world.at(begin, partial(self.world.restart, number, with_disk=keeps))
                self.world.at(begin, partial(self.ask, number, b"welcome back, %d" % len(self.asked)))
                begin += self.chance.uniform(0, self.until_ms / 8)

    def power_cut(self) -> None:
        """All honest nodes end at once, and come back with their disks one after the other."""
        if self.power.random() < 0.7:
            return
        begin, spread = self.power.uniform(0, self.until_ms), self.power.choice([5.0, 50.0, 300.0])
        self.world.at(begin, self._end_all)
        for number in self.honest:
            self.world.at(begin + 5 + self.power.uniform(0, spread), partial(self._start, number))

    def farewells(self) -> None:
        """As peace begins some honest nodes end for good: what the others lack, they must have from each other."""
        self.gone = {number for number in self._may_be_away() if self.fate.random() < 0.5}
        for number in self.gone:
            if self.world.nodes[number].alive:
                self.world.crash(number)

    def rumours(self) -> None:
        """Nodes are told that others have died who have not."""
        for _ in range(self.chance.choice([0, 0, 2, 20])):
            told, of = self.chance.sample(range(len(self.world.nodes)), 2)
            self.world.at(self.chance.uniform(0, self.until_ms), partial(self.world.tell_of_loss, told, of))

    def changes(self) -> None:
        """Spare nodes take the places of some voters."""
        spare = len(self.world.nodes) - self.size
        if not spare or self.chance.random() < 0.4:
            return
        out = self.chance.sample(range(self.size), min(spare, self.faults))
        members = [n for n in range(self.size) if n not in out] + list(range(self.size, self.size + len(out)))
        body = change_body(tuple(self.world.nodes[number].seal.public for number in members))
        self._soon(self.ask, body)

    def peace(self) -> None:
        """Everybody is back, and clients ask again for what they have not heard of."""
        for node in self.world.nodes:
            if not node.alive and node.number not in self.gone:
                self.world.restart(node.number)
        there = [number for number in self.honest if number not in self.gone]
        for body in self.asked:
            self.world.submit(self.chance.choice(there), body)
        for number in there:
            for i in range(2):
                self.ask(number, b"last of %d: %d" % (number, i))

    def _may_be_away(self) -> list[int]:
        return self.honest[: self.faults - len(self.liars)]

    def _soon(self, event: Callable[[int, bytes], None], body: bytes) -> None:
        number = self.chance.choice(self.honest)
        self.world.at(self.chance.uniform(0, self.until_ms), partial(event, number, body))

    def _end_all(self) -> None:
        for number in self.honest:
            if self.world.nodes[number].alive:
                self.world.crash(number)

    def _start(self, number: int) -> None:
        if not self.world.nodes[number].alive:
            self.world.restart(number)

    def _part(self, side: frozenset[int]) -> None:
        self.world.cut = lambda a, b: (a in side) != (b in side)


def storm(
    seed: int,
    *,
    liars: Sequence[str] | None = None,
    size: int | None = None,
    core: type[Core] = Core,
    wire: bool = False,
    trace: list[tuple[Any, ...]] | None = None,
    storm_ms: float = STORM_MS,
) -> Outcome:
    """Run a committee through everything at once; what was asked of honest voters must be decided by all of them.

    In peace that may take f + :data:`UNLUCKY_VIEWS` views that fail, no more.

    Parameters
    ----------
    liars : sequence of str, optional
        Names of what the faulty do, in place of some drawn at random.
    size : int, optional
        Voters, instead of a number drawn.

    Raises
    ------
    Foul
        An invariant broke, or the committee did not come to rest.
    """
    s = _storm(seed, liars, size, core, wire, storm_ms)
    s.world.trace = trace
    s.requests()
    s.partitions()
    s.spite()
    s.gale()
    s.crashes()
    s.power_cut()
    s.changes()
    s.rumours()
    s.world.run(storm_ms)
    s.world.heal()
    s.farewells()
    s.world.run(storm_ms + 500)
    s.peace()
    there = [node for node in s.world.honest if node.alive]
    voters = [node.number for node in there if node.nonce == 0]
    ahead = max((node.core for node in there), key=lambda core: (core.committee.epoch, core.view, core.passed_views))
    allowed = ahead.nullified_views + s.faults + UNLUCKY_VIEWS

    def over() -> bool:
        return ahead.nullified_views > allowed or s.world.all_decided(s.asked, voters)

    if not s.world.run(storm_ms + PEACE_MS, stop=over):
        late = {n: sum(s.world.nodes[n].decided(body) is None for body in s.asked) for n in voters}
        raise Foul(f"seed {seed}: after {PEACE_MS:g} ms of peace nodes have not decided: {late}")
    if ahead.nullified_views > allowed:
        raise Foul(f"seed {seed}: more than f + {UNLUCKY_VIEWS} views failed in peace, f being {s.faults}")
    cores = [node.core for node in there]
    kept = max(core.open_views for core in cores)
    if kept > MOST_KEPT_VIEWS:
        raise Foul(f"seed {seed}: a replica keeps {kept} views when all is decided")
    best = max(cores, key=lambda c: c.chain.height)
    if any(node.decided(b"invalid") is not None for node in s.world.honest):
        raise Foul(f"seed {seed}: an invalid request was decided")
    return Outcome(
        seed=seed,
        liars=s.liars,
        decided=len(s.asked),
        views=best.view,
        nullified=sum(c.nullified_views for c in cores),
        failed=ahead.nullified_views - allowed + s.faults + UNLUCKY_VIEWS,
        epochs=best.committee.epoch,
        handled=s.world.handled,
        accused=tuple(sorted(s.world.judge.accused)),
    )


def _storm(
    seed: int, liars: Sequence[str] | None, size: int | None, core: type[Core], wire: bool, until_ms: float
) -> _Storm:
    chance = random.Random(seed)
    size = size or chance.choice([4, 4, 4, 7, 7, 10])
    most = (size - 1) // 3
    names = list(liars) if liars is not None else chance.choices(sorted(LIARS), k=chance.randint(0, most))
    chosen = dict(zip(chance.sample(range(size), len(names)), names, strict=True))
    weather = Weather(
        delay_ms=(0.1, chance.choice([1.0, 5.0, 15.0])),
        loss=chance.choice([0.0, 0.02, 0.2]),
        twice=chance.choice([0.0, 0.1]),
        late=chance.choice([0.0, 0.05]),
        disk_ms=(0.0, chance.choice([0.1, 3.0])),
        drift=chance.choice([0.0, 0.1]),
    )
    world = World(
        seed,
        nodes=size,
        spare=chance.choice([0, 0, 1, 3]),
        weather=weather,
        timing=TIMING,
        liars={number: LIARS[name](random.Random(seed * 100 + number)) for number, name in chosen.items()},
        core=core,
        wire=wire,
    )
    words, power, fate = (random.Random(f"{of} {seed}") for of in ("words", "power", "fate"))
    return _Storm(world, chance, size, chosen, until_ms, words, power, fate)
