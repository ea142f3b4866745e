"""Seats whose voters are keys and no processes: they answer at once, as a test says; what is signed is real."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest

from cluster import runtime
from consensus import ballots
from consensus.ballots import Choice
from consensus.errors import UnknownKind
from consensus.motions import motion_of
from consensus.simplex.types import unpacked
from consensus.waiting import Answer
from tests.consensus.signed import Voters

REFUSED = Answer(refusal=UnknownKind("nothing is known", "Despair"))


@dataclass(frozen=True, eq=False)
class Call:
    """A call that has been answered."""

    value: Any


@dataclass(eq=False)
class Silence:
    """What a seat answers that does not answer, until it does, with nothing of use."""

    over: bool = False


@dataclass
class Method:
    answer: Callable[..., Any]

    def remote(self, *arguments: Any) -> Call:
        return Call(self.answer(*arguments))


@dataclass
class Seat:
    """A replica with the keys it speaks for: one voter's, or a quorum's that it has got hold of."""

    voter: int
    voters: Voters
    forges: bool = False
    refuses: bool = False
    leads: tuple[int, int] = (0, 1)
    """Seats of which it says that they lead, now and next."""
    asked: list[str] = field(default_factory=list)
    """Methods, as they were called."""

    def __getattr__(self, name: str) -> Method:
        answer = getattr(self, f"_{name}")

        def noted(*arguments: Any) -> Any:
            self.asked.append(name)
            return answer(*arguments)

        return Method(noted)

    def _ballots(self, questions: list[bytes]) -> Any:
        committee = self.voters.committee
        if self.forges:
            return committee.epoch, self.leads, []
        signer = self.voters.signers[self.voter]
        motions = [motion_of(unpacked(question)) for question in questions]
        given = [ballots.ballot(signer, committee, motion, Choice.APPROVE) for motion in motions]
        return committee.epoch, self.leads, [REFUSED.refusal] * len(given) if self.refuses else given

    def _estimates(self, questions: list[bytes]) -> Any:
        committee, signer = self.voters.committee, self.voters.signers[self.voter]
        motions = [motion_of(unpacked(question)) for question in questions]
        return committee.epoch, [ballots.estimate(signer, committee, motion, 0.03) for motion in motions]

    def _decide(self, bodies: list[bytes], patience_s: float) -> Any:
        if self.refuses:
            return [REFUSED] * len(bodies)
        if self.forges:
            return [Answer(self.voters.decided(ballots.decode(body).motion).evidence) for body in bodies]
        return [Answer(self.voters.evidence(self.voters.final(body)[1])) for body in bodies]

    def _decided(self, identities: list[bytes]) -> Any:
        return [Answer()] * len(identities)

    def _log(self, above: int, most: int) -> Any:
        return []

    def _ends(self, epoch: int) -> Any:
        return list(self.voters.known.ends[epoch:])


@dataclass
class House:
    """Seats by number, in Ray's place."""

    seats: dict[int, Any] = field(default_factory=dict)
    waits: list[float] = field(default_factory=list)
    answered: list[Any] = field(default_factory=list)
    in_turn: bool = False
    """Whether those who were asked first answer first, and no more of them than are waited for; else all do at once."""

    def sit(self, voters: Voters, first: int = 0) -> None:
        self.seats |= {first + voter: Seat(voter, voters) for voter in voters.signers}


def seated(monkeypatch: pytest.MonkeyPatch) -> House:
    """A house in Ray's place, as long as the test runs."""
    found = House()

    def first_of(calls: list[Call], count: int, timeout_s: float) -> tuple[list[Call], list[Call]]:
        found.waits.append(timeout_s)
        done = [call for call in calls if not isinstance(call.value, Silence) or call.value.over]
        if not done:
            time.sleep(timeout_s)
        done = done[:count] if found.in_turn else done
        found.answered += done
        return done, [call for call in calls if call not in done]

    def value_of(call: Call, _: float) -> Any:
        if call not in found.answered:
            raise TimeoutError
        return call.value

    monkeypatch.setattr(runtime, "named_actors", lambda _: [f"consensus-{seat + 1}" for seat in found.seats])
    monkeypatch.setattr(runtime, "find_actor", lambda name, _: found.seats[int(name.rpartition("-")[2]) - 1])
    monkeypatch.setattr(runtime, "first_of", first_of)
    monkeypatch.setattr(runtime, "wait_for", value_of)
    return found
