"""One bug for every rule of the protocol: the storms must notice each. A rule that can be broken unseen is untested."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from consensus.simplex.chain import Application, Chain
from consensus.simplex.core import Core, Record, Turn
from consensus.simplex.crypto import Signs
from consensus.simplex.pace import Pace
from consensus.simplex.proofs import ConflictingVotes
from consensus.simplex.types import (
    NOTHING,
    Block,
    Certificate,
    Committee,
    Finality,
    Kind,
    Message,
    Proposal,
    Standing,
    Supply,
    Vote,
    request_id,
)
from consensus.simplex.views import View
from consensus.simulator.judge import Foul
from consensus.simulator.liars import signed
from consensus.simulator.scenario import storm
from consensus.simulator.world import Machine, World, change_body
from tests.consensus.test_halted_voters import a_network_too_slow_for_any_timer, two_that_decide_apart
from tests.consensus.test_leaders import (
    a_leader_that_gives_its_view_up,
    a_leader_that_hears_nothing,
    a_leader_that_is_dead,
    a_leader_that_nobody_hears,
    a_leader_that_proposes_to_some,
    a_network_a_little_slower_than_usual,
    a_network_slower_than_the_timers,
    a_proposal_to_one_alone,
    a_request_that_is_told_to_some,
    four_decide_without_another_block,
    ten_seconds_alone,
)
from tests.consensus.test_lost_logs import a_view_that_only_the_lost_life_saw, some_who_know_nothing_and_one_who_lies

MOST_SEEDS = 120


class VotesBeforeTheDisk(Core):
    """Votes are sent and never written."""

    def _ended(self) -> Turn:
        turn = super()._ended()
        turn.records = [record for record in turn.records if not isinstance(record, Vote)]
        return turn


class WritesLater(Core):
    """Some records are left to the next turn."""

    later: tuple[Record, ...] = ()
    kind: type[Record]

    def _ended(self) -> Turn:
        turn = super()._ended()
        left = tuple(record for record in turn.records if isinstance(record, self.kind))
        turn.records = [*self.later, *(record for record in turn.records if record not in left)]
        self.later = left
        return turn


class VotesAreLeftToTheNextTurn(WritesLater):
    """Votes are sent, and written some time after."""

    kind = Vote


class TellsWhatIsNotWritten(WritesLater):
    """What is final is told, and written some time after."""

    kind = Finality


class ForgetsItsVotes(Core):
    """Votes are written, and not read after a restart."""

    def _recall(self, record: object) -> None:
        if not isinstance(record, Vote):
            super()._recall(record)  # type: ignore[arg-type]


class ForgetsWhatIsFinal(Core):
    """Decisions are written, and not read after a restart."""

    def _recall(self, record: object) -> None:
        if not isinstance(record, Finality):
            super()._recall(record)  # type: ignore[arg-type]


class VotesTwice(Core):
    """A vote for every block of the leader, not for the first."""

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        view = self._at(proposal.block.view)
        if view.proposal is not None and view.proposal.block.digest != proposal.block.digest:
            view.proposal = None
            view.own.pop(Kind.NOTARIZE, None)
        super()._on_proposal(sender, proposal)


class GivesUpAndFinalises(Core):
    """FINALIZE although the view was given up."""

    def _finalise_vote(self, view: View, digest: bytes) -> None:
        if Kind.FINALIZE not in view.own and self._may_vote(view.number):
            self._vote(view, Kind.FINALIZE, digest)


class FinalisesAndGivesUp(Core):
    """FINALIZE when voting for a block, before it is notarised; the view may be given up later."""

    def _vote(self, view: View, kind: Kind, digest: bytes, reader: int | None = None) -> None:
        super()._vote(view, kind, digest, reader)
        if kind is Kind.NOTARIZE and Kind.FINALIZE not in view.own:
            super()._vote(view, Kind.FINALIZE, digest)

    def _nullify(self) -> None:
        view = self._at(self._view)
        held = view.own.pop(Kind.FINALIZE, None)
        super()._nullify()
        if held is not None:
            view.own[Kind.FINALIZE] = held


class OneVoteTooFew(Core):
    """2f votes make a certificate."""

    def _begin_epoch(self) -> None:
        super()._begin_epoch()
        self._checker.committee = _Lax(
            self.committee.chain,
            self.committee.epoch,
            self.committee.keys,
            self.committee.anchor,
            self.committee.height,
            self.committee.quarantined,
        )


class _Lax(Committee):
    @property
    def quorum(self) -> int:
        return 2 * self.faults


class FinalAtOnce(Core):
    """A notarised block is taken for final."""

    def _on_certificate(self, certificate: Certificate, *, known: bool = False) -> bool:
        taken = super()._on_certificate(certificate, known=known)
        if taken and certificate.kind is Kind.NOTARIZE and certificate.epoch == self.committee.epoch:
            view = self._at(certificate.view)
            c = certificate
            view.certificates.setdefault(
                Kind.FINALIZE, Certificate(Kind.FINALIZE, c.epoch, c.view, c.digest, c.signatures)
            )
            self._settle()
        return taken


class StepsOverViews(Core):
    """Views between a block and its parent need not be nullified."""

    def _founded(self, block: Block) -> bool | None:
        for number in range(block.parent_view + 1, block.view):
            view = self._at(number)
            if not view.nullified:
                fake = Certificate(Kind.NULLIFY, self.committee.epoch, number, NOTHING, ())
                view.certificates[Kind.NULLIFY] = fake
                try:
                    return super()._founded(block)
                finally:
                    del view.certificates[Kind.NULLIFY]
        return super()._founded(block)

    def _parent(self) -> tuple[int, bytes] | None:
        return self.chain.view, self.chain.tip


class BuildsOnAnything(Core):
    """The parent need not be notarised."""

    def _founded(self, block: Block) -> bool | None:
        return True if self.chain.path(block.parent) is not None else super()._founded(block)


class ObeysAnybody(Core):
    """A proposal of any voter is taken for the leader's."""

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        view = self._at(proposal.block.view)
        if view.proposal is None and self._checker.vote(proposal.vote):
            view.proposal = proposal
        super()._on_proposal(sender, proposal)


class BelievesVotes(Core):
    """Signatures of votes are not verified."""

    def _begin_epoch(self) -> None:
        super()._begin_epoch()
        self._checker.vote = lambda vote: True  # type: ignore[method-assign]


class BelievesCertificates(Core):
    """Signatures of certificates are not verified."""

    def _begin_epoch(self) -> None:
        super()._begin_epoch()
        self._checker.certificate = lambda certificate: True  # type: ignore[method-assign]


class VotesWithoutItsLog(Core):
    """A replica that lost its log votes at once."""

    def __init__(self, *arguments: object, **options: object) -> None:
        options["nonce"] = 0
        super().__init__(*arguments, **options)  # type: ignore[arg-type]


class GoesOnBehindTheEnd(Chain):
    """Blocks behind a change of the committee count."""

    def finalise(self, path: list[Block], certificate: Certificate) -> list[Block]:
        changes = [change for block in path if (change := self.ends_epoch(block)) is not None]
        made = super().finalise(path, certificate)
        if changes:
            self._final += path[len(made) :]
            self.committee = replace(self.committee, anchor=path[-1].digest, height=path[-1].height)
            self.committees[-1] = self.committee
        return path


class DecidesTwice(Core):
    """A request that was decided, or is under way, may be proposed again."""

    def _take(self, body: bytes, source: int) -> bool:
        self._again = [*getattr(self, "_again", []), body][-4:]
        return super()._take(body, source)

    def _chosen(self, path: Sequence[Block]) -> tuple[bytes, ...]:
        chosen = super()._chosen(path)
        return chosen or tuple(getattr(self, "_again", [])[-1:])

    def _founded(self, block: Block) -> bool | None:
        self.chain.acceptable = lambda block, path: True  # type: ignore[method-assign]
        return super()._founded(block)


class DecidesBytes(Core):
    """Of two requests about the same both may be decided, since their bytes are not the same."""

    def __init__(self, committee: Committee, signer: Signs, application: Application, *more: object, **options: object):
        super().__init__(committee, signer, _Literal(application), *more, **options)  # type: ignore[arg-type]


class _Literal:
    def __init__(self, application: Application) -> None:
        self.valid, self.change = application.valid, application.change
        self.subject = request_id


class DecidesAnything(Core):
    """The application is not asked."""

    def __init__(self, *arguments: object, **options: object) -> None:
        super().__init__(*arguments, **options)  # type: ignore[arg-type]
        self.chain.valid = self._gives_a_committee  # type: ignore[method-assign]

    def _gives_a_committee(self, body: bytes) -> bool:
        change = self._application.change(body)
        return change is None or self.committee.may_become(change)


class AccusesUnheard(Core):
    """A vote that somebody signed in another's name is proof against the other."""

    def _on_vote(self, sender: int, vote: Vote, *, known: bool = False) -> None:
        if vote.epoch == self.committee.epoch and vote.voter < len(self.committee.keys):
            mine = self._at(vote.view).own.get(vote.kind)
            if mine is not None and vote.voter != self._voter and not self._checker.vote(vote):
                self._turn.proofs.append(ConflictingVotes(vote, vote))
        super()._on_vote(sender, vote, known=known)


class AccusesOverOldNews(Core):
    """Whoever votes for another block than this replica did is accused."""

    def _on_vote(self, sender: int, vote: Vote, *, known: bool = False) -> None:
        if vote.epoch == self.committee.epoch:
            mine = self._at(vote.view).own.get(Kind.NOTARIZE)
            if mine is not None and vote.kind is Kind.NULLIFY and self._checker.vote(vote):
                self._turn.proofs.append(ConflictingVotes(mine, vote))
        super()._on_vote(sender, vote, known=known)


class GivesUpForAnybody(Core):
    """A view is given up when its leader seems to give it up, whoever signed that."""

    def _on_vote(self, sender: int, vote: Vote, *, known: bool = False) -> None:
        leads = vote.view == self._view and vote.voter == self.committee.leader(self._view)
        if vote.kind is Kind.NULLIFY and leads and vote.epoch == self.committee.epoch:
            self._nullify()
        super()._on_vote(sender, vote, known=known)


class KeepsEveryView(Core):
    """A certificate makes it keep a view before its signatures are verified."""

    def _on_certificate(self, certificate: Certificate, *, known: bool = False) -> bool:
        if certificate.view > self.chain.view:
            self._at(certificate.view)
        return super()._on_certificate(certificate, known=known)


class WaitsForEver(Core):
    """A view is never given up."""

    def _nullify(self) -> None:
        return


class SaysThingsOnce(Core):
    """Nothing is said again."""

    def _repeat(self) -> None:
        self._at(self._view).retry = self._now + self._timing.repeat_ns

    def _tell_standing(self, voter: int | None, nonce: int) -> None:
        if nonce:
            super()._tell_standing(voter, nonce)


class HelpsNobody(Core):
    """Nobody is given what it lacks."""

    def _supply(self, voter: int, **what: Any) -> None:
        return


class KeepsCertificates(Core):
    """Certificates are not passed on, in no way."""

    def _pass_on(self, certificate: Certificate, readers: Sequence[int | None] = ()) -> None:
        return

    def _say_all(self, message: Message) -> None:
        if not isinstance(message, Supply):
            super()._say_all(message)

    def _supply(self, voter: int, **what: Any) -> None:
        return


class BelievesWhatIsFinal(Core):
    """What somebody supplies as final is final."""

    def _on_finality(self, finality: Finality) -> None:
        for block in finality.blocks:
            self.chain.add(block)
        if finality.blocks[-1].epoch == self.committee.epoch:
            self.chain.finalise(list(finality.blocks), finality.certificate)


class KeepsItToItself(Core):
    """A leader does not say at once that there are enough FINALIZE votes, which came to it alone."""

    def _tell_of(self, certificate: Certificate) -> None:
        self._unsaid.append((self._now + self._timing.notice_ns, certificate))


class TellsLater(Core):
    """A certificate is passed on when it is time, though a vote shows that somebody lacks it."""

    def _tell_what_is_unsaid(self, view: int) -> None:
        pass


class TrustsTheDead(Core):
    """FINALIZE votes stay with a leader whose process has ended."""

    def lost(self, voter: int, now_ns: int) -> Turn:
        self._now = now_ns
        self._lost.add(voter)
        return self._ended()


class ForgetsThePace(Core):
    """Timers are as usual again with the next view that does not fail."""

    def _end_view(self, view: View, *, failed: bool) -> None:
        super()._end_view(view, failed=failed)
        if not failed:
            self._pace = Pace(len(self.committee.keys), self.committee.faults)


class KeepsThePace(Core):
    """Timers that have grown stay so."""

    def _end_view(self, view: View, *, failed: bool) -> None:
        if failed:
            super()._end_view(view, failed=failed)


class NeverPauses(Core):
    """What is said again is so at the same interval for ever."""

    def _repeat(self) -> None:
        super()._repeat()
        self._at(self._view).retry = self._now + self._timing.repeat_ns


class PausesForEver(Core):
    """What is said again is so twice as late each time, without an end."""

    def _repeat(self) -> None:
        super()._repeat()
        view = self._at(self._view)
        view.retry = self._now + (self._timing.repeat_ns << view.repeats)


class WaitsForTheDead(Core):
    """A leader whose process has ended is waited for."""

    def _skip_leader(self) -> None:
        if self.committee.leader(self._view) not in self._lost:
            super()._skip_leader()


class WaitsForTheSilent(Core):
    """A leader that was not heard in its turns is waited for, in each of them."""

    def _skip_leader(self) -> None:
        if self.committee.leader(self._view) in self._lost:
            super()._skip_leader()


class GivesUpAlone(Core):
    """A leader that gives its own view up takes nobody with it."""

    def _skip_leader(self) -> None:
        if not self._at(self._view).given_up_by(self.committee.leader(self._view), self._checker):
            super()._skip_leader()


class HelpsInHaste(Core):
    """A leader whose only work is a block that is not final yet is given up as if somebody waited for its own."""

    def _proposal_is_due(self) -> bool:
        return True


class HidesRequests(Core):
    """A leader is waited for, and not told of the request that it is waited for."""

    def _hint(self) -> None:
        self._at(self._view).hint = None


class KeepsWhatWasUnderWay(Core):
    """What a client asked for in a block that was given up is not said to the others with that."""

    def _say_what_was_under_way(self, view: View) -> None:
        pass


class FailsForEver(Core):
    """It votes on, however many views have failed."""

    @property
    def halted(self) -> bool:
        return self.broken


class VotesForEitherSide(Core):
    """It votes on though certificates contradict each other."""

    @property
    def halted(self) -> bool:
        broken, self.broken = self.broken, False
        try:
            return super().halted
        finally:
            self.broken = broken


class AsksTooFew(Core):
    """A voter that lost its log votes again once f+1 others have told how far they are."""

    def _count_answer(self, standing: Standing) -> None:
        super()._count_answer(standing)
        if len(self._loss.answers) > self.committee.faults:
            self._loss.first_view = max(self._loss.answers.values()) + 2
            self._loss.recovered = self.committee.epoch, self._loss.first_view


class SpeaksAViewTooSoon(Core):
    """A voter that lost its log votes again in the view behind the last that it was told of."""

    def _count_answer(self, standing: Standing) -> None:
        super()._count_answer(standing)
        if self._loss.first_view is not None:
            self._loss.first_view = max(self._loss.answers.values()) + 1
            self._loss.recovered = self.committee.epoch, self._loss.first_view


MUTANTS: list[tuple[type[Core], tuple[str, ...] | None]] = [
    (VotesBeforeTheDisk, ()),
    (VotesAreLeftToTheNextTurn, ()),
    (TellsWhatIsNotWritten, ()),
    (ForgetsItsVotes, ()),
    (ForgetsWhatIsFinal, ()),
    (VotesTwice, ("two_faced_leader",)),
    (GivesUpAndFinalises, ()),
    (FinalisesAndGivesUp, ()),
    (OneVoteTooFew, ()),
    (FinalAtOnce, ()),
    (StepsOverViews, ()),
    (BuildsOnAnything, ("mutator",)),
    (BelievesVotes, ("impersonator",)),
    (BelievesCertificates, ("false_witness",)),
    (VotesWithoutItsLog, ()),
    (DecidesTwice, ()),
    (DecidesBytes, ()),
    (DecidesAnything, ("mutator",)),
    (AccusesUnheard, ("impersonator",)),
    (AccusesOverOldNews, ()),
    (KeepsEveryView, ("false_witness",)),
    (WaitsForEver, ()),
    (SaysThingsOnce, ()),
    (HelpsNobody, ()),
    (KeepsCertificates, ()),
    (BelievesWhatIsFinal, ("false_witness",)),
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize(("mutant", "liars"), MUTANTS, ids=[mutant.__name__ for mutant, _ in MUTANTS])
def test_mutant_is_noticed(mutant: type[Core], liars: tuple[str, ...] | None) -> None:
    for seed in range(MOST_SEEDS):
        try:
            storm(seed, core=mutant, liars=liars, size=4)
        except Foul:
            return
    pytest.fail(f"{MOST_SEEDS} storms did not notice that {mutant.__doc__}")


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    [
        (KeepsItToItself, four_decide_without_another_block),
        (TellsLater, a_leader_that_proposes_to_some),
        (TrustsTheDead, partial(a_leader_that_hears_nothing, ended=True)),
        (ForgetsThePace, a_network_slower_than_the_timers),
        (KeepsThePace, a_network_slower_than_the_timers),
        (NeverPauses, ten_seconds_alone),
        (PausesForEver, ten_seconds_alone),
        (WaitsForTheDead, partial(a_leader_that_is_dead, told=True)),
        (WaitsForTheSilent, a_leader_that_nobody_hears),
        (GivesUpAlone, a_leader_that_gives_its_view_up),
        (HelpsInHaste, a_network_a_little_slower_than_usual),
        (HelpsInHaste, partial(a_request_that_is_told_to_some, behind=True)),
        (HidesRequests, partial(a_request_that_is_told_to_some, behind=False)),
        (KeepsWhatWasUnderWay, a_proposal_to_one_alone),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_mutant_that_only_costs_time_is_noticed(mutant: type[Core], scenario: Callable[[type[Core]], None]) -> None:
    """By those scenarios of test_leaders.py that a committee of sound replicas stands."""
    with pytest.raises(AssertionError):
        scenario(mutant)


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    [(FailsForEver, a_network_too_slow_for_any_timer), (VotesForEitherSide, two_that_decide_apart)],
)
def test_mutant_that_does_not_halt_is_noticed(mutant: type[Core], scenario: Callable[[type[Core]], None]) -> None:
    """No storm lasts through so many views, or has so many liars."""
    with pytest.raises(AssertionError):
        scenario(mutant)


@pytest.mark.parametrize(
    ("mutant", "scenario"),
    [
        (AsksTooFew, some_who_know_nothing_and_one_who_lies),
        (SpeaksAViewTooSoon, a_view_that_only_the_lost_life_saw),
    ],
)
def test_mutant_that_contradicts_its_lost_life_is_noticed(
    mutant: type[Core], scenario: Callable[[type[Core]], None]
) -> None:
    """The moments are too rare for storms to find."""
    with pytest.raises(Foul, match="an honest voter signed"):
        scenario(mutant)


def test_views_that_fail_in_peace_are_noticed() -> None:
    """In a short storm, since with this bug the committee does nothing but give views up."""
    with pytest.raises(Foul, match="views failed in peace"):
        storm(0, core=GivesUpForAnybody, liars=["forger"], size=4, storm_ms=100)


@pytest.mark.parametrize(("core", "proposer", "obeyed"), [(Core, 1, True), (Core, 2, False), (ObeysAnybody, 2, True)])
def test_only_the_leader_of_a_view_is_obeyed(core: type[Core], proposer: int, obeyed: bool) -> None:
    """Not for safety, which a quorum gives whoever proposes: but nobody else may fill the blocks."""
    world = World(1, core=core)
    node = world.nodes[0]
    assert world.committee.leader(1) == 1
    block = Block(0, 1, 1, 0, NOTHING, (b"mine",))
    vote = signed(world.nodes[proposer].seal, world.committee, proposer, Kind.NOTARIZE, 1, block.digest)
    turn = node.core.handle(proposer, Proposal(block, vote), 0)
    cast = [message for _, message in turn.messages if isinstance(message, Vote) and message.kind is Kind.NOTARIZE]
    assert bool(cast) == obeyed


@pytest.mark.parametrize(("kind", "forgotten"), [(Chain, True), (GoesOnBehindTheEnd, False)])
def test_what_lies_behind_a_change_of_the_committee_is_forgotten(kind: type[Chain], forgotten: bool) -> None:
    """A storm in which two honest voters end an epoch by certificates for different blocks is too rare to wait for."""
    world = World(1)
    body = change_body(world.committee.keys[::-1])
    chain = kind(world.committee, Machine())
    last = Block(0, 1, 1, 0, NOTHING, (body,))
    behind = Block(0, 2, 2, 1, last.digest, ())
    seals = [node.seal for node in world.nodes[:3]]
    votes = [signed(seal, world.committee, n, Kind.FINALIZE, 2, behind.digest) for n, seal in enumerate(seals)]
    signatures = tuple((vote.voter, vote.signature) for vote in votes)
    chain.finalise([last, behind], Certificate(Kind.FINALIZE, 0, 2, behind.digest, signatures))
    assert chain.committee.epoch == 1
    assert ((chain.height, chain.tip, chain.committee.anchor) == (1, last.digest, last.digest)) == forgotten
