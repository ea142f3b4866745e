"""Voters who say nothing false, but too late or to too few, so that views fail and timers grow: what that can do."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import deque
from functools import partial

import pytest

from consensus.simplex.core import Core, Timing, Turn
from consensus.simplex.types import NOTHING, Kind, Message, Notice, Proposal, Request, Standing, Supply, Vote
from consensus.simulator.liars import signed
from consensus.simulator.world import MS, Node, Weather, World
from tests.consensus.test_mutants import TellsLater

PROPOSAL_MS = Timing().proposal_ns / MS
SPOILERS = {4: (2,), 7: (2, 5), 10: (2, 5, 8)}
Spoken = list[tuple[int | None, Message | bytes]]


class Attacked(ABC):
    """A committee in which f voters are in one hand, and clients who ask all honest ones, one request after another."""

    def __init__(self, size: int, longest_delay_ms: float = 2.0, core: type[Core] = Core) -> None:
        self.calm = Weather(delay_ms=(longest_delay_ms / 2, longest_delay_ms))
        liars = dict.fromkeys(SPOILERS[size], self.hands)
        self.world = World(3, nodes=size, weather=self.calm, liars=liars, core=core)
        self.faulty, self.faults = SPOILERS[size], len(SPOILERS[size])
        self.honest = [number for number in range(size) if number not in self.faulty]
        self.asked = 0

    @property
    def factor(self) -> int:
        return max(self.world.nodes[number].core._pace.factor for number in self.honest)

    def decided(self, requests: int) -> list[float]:
        """Milliseconds that each decision took, until all honest ones knew it."""
        taken = []
        for _ in range(requests):
            self.asked += 1
            body, begun = b"request %d" % self.asked, self.world.now
            for number in self.honest:
                self.world.submit(number, body)
            assert self.world.run(begun / MS + 60_000, stop=partial(self.world.all_decided, [body], self.honest))
            taken.append((self.world.now - begun) / MS)
        return taken

    @abstractmethod
    def hands(self, node: Node, turn: Turn) -> Spoken:
        """What a faulty voter says instead of a turn's messages."""

    def later(self, share: float, sender: int, targets: list[int], message: Message) -> None:
        """Say something when this share of the time for proposals has passed at whoever has the most."""
        when = self.world.now / MS + share * PROPOSAL_MS * self.factor
        for target in targets:
            self.world.at(when, partial(self.world._transmit, sender, target, message))


class LateAndSilent(Attacked):
    """Proposals come late, and who led keeps what it learnt: the next leader waits before it makes up for that."""

    def hands(self, node: Node, turn: Turn) -> Spoken:
        said: Spoken = []
        for to, message in turn.messages:
            match message:
                case Proposal():
                    self.later(0.6, node.number, [n for n in range(len(self.world.nodes)) if n != node.number], message)
                case Notice() | Supply() | Standing():
                    pass
                case _:
                    said.append((to, message))
        return said


class ToTooFew(Attacked):
    """A proposal comes late and to f+1, with all votes of the faulty: its view passes, and the next leader's fails."""

    def hands(self, node: Node, turn: Turn) -> Spoken:
        said: Spoken = []
        committee, seals = self.world.committee, {number: self.world.nodes[number].seal for number in self.faulty}
        for to, message in turn.messages:
            if isinstance(message, Proposal):
                view, digest = message.block.view, message.block.digest
                few = [number for number in self.honest if number != committee.leader(view + 1)][: self.faults + 1]
                self.later(0.7, node.number, few, message)
                said += [(other, message) for other in self.faulty]
                for number, seal in seals.items():
                    vote = signed(seal, committee, number, Kind.NOTARIZE, view, digest)
                    given_up = signed(seal, committee, number, Kind.NULLIFY, view + 1, NOTHING)
                    said += [(target, vote) for target in few] + [(target, given_up) for target in self.honest]
            elif isinstance(message, Vote) and message.kind is Kind.NOTARIZE:
                said += [(to, message)] if committee.leader(message.view) not in self.faulty else []
        return said


class LentVotes(Attacked):
    """A proposal comes to the next f honest leaders alone, and the votes that make its view fail to the others alone:
    these are in the next view before its leader knows that the one before has failed."""

    def __init__(self, size: int, longest_delay_ms: float = 2.0, core: type[Core] = Core) -> None:
        super().__init__(size, longest_delay_ms, core)
        self.lent: set[tuple[int, int]] = set()
        self.lend()

    def victims(self, view: int) -> list[int]:
        leaders = [self.world.committee.leader(number) for number in range(view + 1, view + 3 * self.faults + 1)]
        return [leader for leader in leaders if leader not in self.faulty][: self.faults]

    def hands(self, node: Node, turn: Turn) -> Spoken:
        proposals = [message for _, message in turn.messages if isinstance(message, Proposal)]
        return [(victim, proposal) for proposal in proposals for victim in self.victims(proposal.block.view)]

    def lend(self) -> None:
        """Help everybody to give up what it has given up, but victims of the view or of the one before."""
        committee = self.world.committee
        for number in self.honest:
            for view in self.world.nodes[number].core._views.values():
                led = [back for back in (view.number, view.number - 1) if committee.leader(back) in self.faulty]
                victims = [victim for back in led for victim in self.victims(back)]
                given_up = Kind.NULLIFY in view.own and (view.number, number) not in self.lent
                if not given_up or not led or number in victims:
                    continue
                self.lent.add((view.number, number))
                for liar in self.faulty:
                    seal = self.world.nodes[liar].seal
                    vote = signed(seal, committee, liar, Kind.NULLIFY, view.number, NOTHING)
                    self.world._transmit(liar, number, vote)
        self.world.at(self.world.now / MS + 1.0, self.lend)


class KeepsFailures(Core):
    """A leader is not told that the view before has failed."""

    def _hint(self) -> None:
        unsaid, self._unsaid = self._unsaid, deque()
        super()._hint()
        self._unsaid = unsaid


@pytest.mark.parametrize(("size", "delay_ms"), [(4, 2.0), (7, 2.0), (7, 15.0), (10, 2.0)])
def test_votes_lent_to_some_do_not_make_the_next_view_fail_too(size: int, delay_ms: float) -> None:
    votes_lent_to_some(size, delay_ms, Core)


@pytest.mark.parametrize("size", [7, 10])
def test_they_would_if_the_next_leader_were_not_told(size: int) -> None:
    with pytest.raises(AssertionError, match="the next view"):
        votes_lent_to_some(size, 2.0, KeepsFailures)


def votes_lent_to_some(size: int, delay_ms: float, core: type[Core]) -> None:
    attacked = LentVotes(size, delay_ms, core)
    taken = attacked.decided(40)
    assert len(attacked.lent) > 10, "the attack does something"
    assert sorted(taken)[35] < 2 * PROPOSAL_MS + 8 * delay_ms, "the next view"
    assert attacked.factor <= 4


@pytest.mark.parametrize("size", [4, 7])
def test_timers_that_grew_come_down_although_f_leaders_keep_views_slow(size: int) -> None:
    attacked = LateAndSilent(size)
    attacked.world.weather = Weather(delay_ms=(200.0, 250.0))
    attacked.decided(8)
    assert attacked.factor >= 16
    attacked.world.weather = attacked.calm
    attacked.decided(60)
    assert max(attacked.decided(20)) < 4 * PROPOSAL_MS
    assert attacked.factor <= 2


@pytest.mark.parametrize("core", [Core, TellsLater])
@pytest.mark.parametrize(("size", "delay_ms"), [(4, 2.0), (7, 2.0), (7, 20.0), (10, 2.0)])
def test_f_leaders_cannot_drive_timers_up_for_ever(size: int, delay_ms: float, core: type[Core]) -> None:
    """Nor could they if nobody was told at once what was kept from him, which spoils most of the attack."""
    attacked = ToTooFew(size, delay_ms, core)
    taken = attacked.decided(100)
    failed = attacked.world.nodes[attacked.honest[0]].core.nullified_views
    assert failed > 20 or core is Core, "the attack does something"
    assert sorted(taken)[50] < 300.0 or core is TellsLater
    assert max(taken) < 5_000.0
    assert attacked.factor <= 8


def test_requests_that_are_kept_from_leaders_do_not_drive_timers_up() -> None:
    requests_that_are_kept_from_leaders(Core)


def requests_that_are_kept_from_leaders(core: type[Core]) -> None:
    """Two of seven are silent in their turns, and before that tell f+1 others of a request: these wait for it in vain
    in the next view too, whose leader has not heard of it, and give that up with the two."""
    faulty = SPOILERS[7]
    world = World(3, nodes=7, liars=dict.fromkeys(faulty, lambda _node, _turn: []), core=core)
    honest = [number for number in range(7) if number not in faulty]
    behind = [number + 1 for number in faulty]
    told = [number for number in honest if number not in behind]
    committee, cores = world.committee, [world.nodes[number].core for number in honest]
    begun: set[int] = set()

    def give_up(view: int) -> None:
        for number in faulty:
            vote = signed(world.nodes[number].seal, committee, number, Kind.NULLIFY, view, NOTHING)
            for target in honest:
                world._transmit(number, target, vote)

    def attack() -> None:
        (view, *others) = {one.view for one in cores}
        leader = committee.leader(view)
        if not others and view not in begun and (leader in behind or not any(one.pending for one in cores)):
            begun.add(view)
            for target in told if leader not in behind else ():
                world._transmit(faulty[0], target, Request(b"kept from most, %d" % view))
            if leader in faulty:
                later = 1.1 * PROPOSAL_MS * max(one._pace.factor for one in cores)
                world.at(world.now / MS + later, partial(give_up, view))
            elif leader in behind:
                give_up(view)
        world.at(world.now / MS + 1.0, attack)

    attack()
    world.run(3000)
    assert max(one._pace.factor for one in cores) <= 2
    assert len(begun) > 50
