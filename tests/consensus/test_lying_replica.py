"""One voter of four answers clients whatever it likes, on real Ray: nothing is denied, and nobody believes it."""

from __future__ import annotations

import copy
import itertools
import time

import numpy as np
import pytest

from actors.agent import Identity
from actors.consensus import agent as voters
from actors.consensus.agent import ReplicaAgent
from cluster import runtime
from consensus import decisions
from consensus.ballots import Ballot, Choice, Estimate, estimate
from consensus.errors import UnknownKind
from consensus.motions import motion_of
from consensus.rules import Outcome
from consensus.seats import replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex.types import unpacked
from consensus.waiting import Answer
from hive.messages.calculation import Role
from hive.messages.health import AgentState
from hive.messages.portfolio import Portfolio
from swarm import boot
from swarm.settings import Settings
from tests.conftest import agent, eventually
from tests.consensus.conftest import DEADLINE_S, committee_of, healthy

STALL_S = 2.0
LIAR = 3
MOTIONS = 12


def _mangled(one):
    """A ballot as no constructor makes it; unpickling checks nothing."""
    mangled = copy.copy(one)
    object.__setattr__(mangled, "reason", None)
    return mangled


class LyingReplica(ReplicaAgent):
    """Takes part in the protocol, and tells clients another lie every time."""

    def __init__(self, *arguments):
        self._turn = itertools.count()
        super().__init__(*arguments)

    def _lie(self, *lies):
        return lies[next(self._turn) % len(lies)]()

    @runtime.answered_in("clients")
    def ballots(self, motions):
        """Ballots nobody signed, of another epoch, too few, of others, none, or late."""
        epoch, _, given = super().ballots(motions)
        forged = [Ballot(one.voter, Choice.APPROVE, one.reason, bytes(64)) for one in given]
        others = [Ballot(0, Choice.REJECT, "", one.signature) for one in given]
        return self._lie(
            lambda: (epoch, (LIAR, LIAR), forged),
            lambda: (epoch + 7, (LIAR, LIAR), given),
            lambda: (epoch, (LIAR, LIAR), given[:-1]),
            lambda: (epoch, ("nobody", [[]]), others),
            lambda: (epoch, (LIAR, LIAR), [None] * len(given)),
            lambda: (epoch, (LIAR, LIAR), [_mangled(one) for one in given]),
            lambda: (epoch, (np.arange(2), np.arange(2)), given),
            lambda: (epoch, 1, given),
            lambda: b"nothing",
            lambda: time.sleep(STALL_S),
        )

    @runtime.answered_in("clients")
    def decide(self, bodies, patience_s):
        """Proofs that are none, refusals, or nothing for long."""
        return self._lie(
            lambda: [Answer(b"proof")] * len(bodies),
            lambda: [Answer(refusal=UnknownKind("nothing is known", "Despair"))] * len(bodies),
            lambda: ["no answer"] * len(bodies),
            lambda: 7,
            lambda: time.sleep(STALL_S),
        )

    @runtime.answered_in("clients")
    def estimates(self, motions):
        """Numbers that nobody signed, a number of its own making that it has, and what is none."""
        epoch, given = super().estimates(motions)
        return self._lie(
            lambda: (epoch, [Estimate(one.voter, one.value + 1.0, one.signature) for one in given]),
            lambda: (epoch, [self._signed(motions[0])]),
            lambda: (epoch + 7, given),
            lambda: (epoch, [UnknownKind("nothing is known", "Despair")]),
            lambda: (epoch, [None]),
            lambda: 7,
        )

    def _signed(self, data):
        motion = motion_of(unpacked(data))
        return estimate(self._key(), decisions.read_committee(self._seat.committee), motion, 1e300)

    @runtime.answered_in("clients")
    def decided(self, identities):
        """Proofs that are none."""
        return self._lie(lambda: [Answer(b"\x92\x90\x90")] * len(identities), lambda: b"", lambda: [None])

    @runtime.answered_in("clients")
    def log(self, above, most):
        """Entries that are none, or are known by what is no id."""
        entries = super().log(above, most)
        return self._lie(
            lambda: [(b"", 1, b"")] * 1000,
            lambda: "log",
            lambda: [(1,)],
            lambda: [(7, height, evidence) for _, height, evidence in entries],
        )

    @runtime.answered_in("clients")
    def evidence(self):
        """Accusations that are none."""
        return self._lie(lambda: [b"guilty"], lambda: "guilty", lambda: [7])


@pytest.fixture(scope="module")
def committee(client, tmp_path_factory):
    home = tmp_path_factory.mktemp("lying")
    settings = Settings(consensus=ConsensusSettings(voters=4, deadline_s=DEADLINE_S))
    with committee_of(client, home, settings) as created:
        liar = replica_name(LIAR)
        boot.take_down((liar,), settings.namespace)
        created[liar] = runtime.spawn(
            LyingReplica,
            Identity(liar, Role.CONSENSUS, False, settings.namespace, boot.version(), settings.hub.heartbeat_s),
            settings.agents,
            settings.consensus,
            str(home / "consensus" / liar),
            True,
            name=liar,
            namespace=settings.namespace,
            concurrency_groups=voters.CONCURRENCY_GROUPS,
        )
        assert eventually(lambda: set(created) <= healthy(client)), client.health().problems
        yield client.committee(proposer="tests", keys=boot.committee_path(home))


def test_every_motion_is_decided_by_the_others(committee, client):
    for number in range(MOTIONS):
        decision = committee.propose("raise_limit", b"%d" % number)
        assert decision.outcome is Outcome.APPROVED
    assert all(one.outcome is Outcome.APPROVED for one in committee.propose_all([("enable_strategy", b"a")] * 4))
    assert agent(client, replica_name(LIAR)).state is AgentState.HEALTHY  # it lies to clients, and votes soundly


def test_a_number_is_agreed_on_that_the_others_have_had_calculated(committee, client):
    book = Portfolio.equal_weights(client.snapshot().symbols[:5], value=1e6)
    wanted = client.agree(
        book, tolerance=1e-9, confidence=0.99, deadline_s=DEADLINE_S, committee=committee
    ).number.median
    for _ in range(8):
        found = client.agree(book, tolerance=1e-9, confidence=0.99, deadline_s=DEADLINE_S, committee=committee)
        assert found.number.median == wanted
        liars = {one.voter for one in found.asked.estimates if one.value != wanted}
        assert set(found.number.outliers) == liars <= {LIAR}


def test_what_was_decided_can_be_read_past_the_liar(committee):
    decision = committee.propose("raise_limit", b"to be found")
    for _ in range(4):
        assert committee.decision(decision.id).asked == decision.asked
        assert decision.id in [entry.id for entry in committee.log()]
        assert committee.evidence() == []


def test_a_motion_that_cannot_be_is_refused_for_its_own_reason(committee):
    for _ in range(5):
        with pytest.raises(UnknownKind, match="abolish_limits"):
            committee.propose("abolish_limits")
