"""Simplex: how 3f+1 replicas decide the same requests in the same order while up to f of them do whatever they like.

The protocol
------------
Time is cut into *views*, numbered from 1; every view has one leader. In view v

1. the leader sends a *proposal*: a block of requests, none about what is decided or under way, behind a parent that is
   notarised in an earlier view p, where all views between p and v are nullified;
2. a replica that finds the first proposal of the leader well founded and valid sends a NOTARIZE vote for it. 2f+1 of
   them make a *notarisation*; no two blocks of one view can have one, since two quorums share an honest voter;
3. a replica that sees a notarisation enters view v+1, and sends a FINALIZE vote for the block unless it has given the
   view up. 2f+1 of them make a *finalisation*: the block and all before it are decided, in three message delays;
4. a replica that waits too long gives the view up: it sends a NULLIFY vote. 2f+1 make a *nullification*, and whoever
   sees one enters view v+1.

The one rule that safety rests on: **nobody votes both NULLIFY and FINALIZE in a view**. If a block of view v is final,
2f+1 have voted FINALIZE, so no 2f+1 ever vote NULLIFY in v; no later proposal can step over v, and every block that is
ever notarised behind it has it among its ancestors.

Certificates are passed on, so what moves one honest replica moves all. Votes are on disk before they are sent, and what
is final before anybody is told; a replica that has lost its log does not know what it voted, and is silent until it can
no longer matter.

Deviations from the paper (Chan and Pass, TCC 2023)
---------------------------------------------------
- A view without work stands still: no timer runs before there is a request, a proposal, a notarised block that is not
  final, or f+1 voters who are at it, one of whom is honest. A leader who has no request, but such a block behind it,
  waits for it to become final before it proposes an empty block to help, and is given as long as a whole view may take.
- A replica that has given a view up does not vote NOTARIZE in it any more. That is safe either way, and quicker to see.
- FINALIZE votes go to the leader of their view alone, who tells all as soon as there are enough: 2 (n - 1) messages
  instead of n (n - 1). If its process has ended they go to all. If it keeps them to itself, the view that follows
  finalises this one too.
- Certificates are passed on later, unless a later block has become final meanwhile: nearly always the votes themselves,
  or the leader, have told all. At once they are passed on by who alone may have them: a finalisation by the leader of
  its view, a nullification by that of the next, whose proposal rests on it. If that one proposes nothing for half the
  time that it has, it is told, and so is who did not say that it gave the failed view up: f votes may have been lent to
  others only. A NULLIFY vote for a view that ended otherwise here shows that its voter does not know that, and all are
  told at once.
- Somebody is always a view or a block behind: what voters say of how far they are is not answered with help before it
  has been so for as long as a message may take.
- A leader that was silent in its turns, or whose process has ended, is given up at once; one that gives its own view up
  takes all with it.
- Timers double while more views fail than f leaders can be blamed for, up to 64 times, and come down again when views
  are quick (:mod:`consensus.simplex.pace`): the bound on delays need not be known. What is repeated in a view is so at
  longer and longer intervals, up to eight times the first.
- Signatures are verified when a quorum needs them, or when two votes of one voter contradict each other; one by one,
  which names a bad one at once: no batch that fails has to be bisected (:mod:`consensus.simplex.crypto`).
- Final blocks may change the committee: such a block ends its *epoch*. Blocks behind it are empty, serve only to
  finalise it, and are forgotten; the next epoch begins behind it with view 1.

Here is neither clock nor network nor disk nor chance. An event goes in with a reading of some clock; a :class:`Turn`
comes out: records that must be durable *before* anything else of that turn is done, messages, decisions, proofs. The
time of the next wake-up is :attr:`Core.next_wake`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from consensus.simplex import crypto
from consensus.simplex.chain import Application, Chain
from consensus.simplex.crypto import Checker, Signs
from consensus.simplex.lost_log import LostLog
from consensus.simplex.pace import OnceAWhile, Pace
from consensus.simplex.pool import CHANGES, OWN, Pool
from consensus.simplex.proofs import FORBIDDEN, ConflictingVotes, FalseNotice, Proof, conflict
from consensus.simplex.types import (
    MOST_BLOCK_BYTES,
    MOST_CERTIFICATES,
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
    notice_bytes,
    standing_bytes,
    vote_bytes,
)
from consensus.simplex.views import View

AHEAD: Final = 64
"""Views beyond its own of which a replica keeps votes."""
MOST_OPEN_VIEWS: Final = 4096
"""Views since the last final block. A committee that fails so often stops, and needs a person."""
REPEATED_REQUESTS: Final = 8
MOST_WANTED: Final = 64
"""Blocks asked for at a time."""


@dataclass(frozen=True, slots=True)
class Timing:
    """How long a replica waits, in the clock's nanoseconds."""

    proposal_ns: int = 30_000_000
    """For the leader's proposal: twice the longest usual delay of a message."""
    view_ns: int = 80_000_000
    """For the view to end: three times the longest usual delay, or more."""
    notice_ns: int = 100_000_000
    """Before it passes on a certificate that the votes should have given everybody."""
    repeat_ns: int = 100_000_000
    """Before it says again what it said in a view that does not end."""
    standing_ns: int = 1_000_000_000
    """Between two words to the others on how far it is."""
    supply_ns: int = 15_000_000
    """Between two supplies to the same replica."""
    skip_views: int = 16
    """Views in which nothing was heard of a leader, after which it is not waited for."""
    most_pending: int = 4096
    """Requests of own clients that wait; what all others bring is as much at most."""


@dataclass(frozen=True, slots=True)
class Decision:
    """Requests that are decided, for ever."""

    block: Block
    finality: Finality
    """With the block among its blocks."""


Record = Vote | Block | Certificate | Finality
"""What the log keeps."""


@dataclass(slots=True)
class Turn:
    """What one event leads to."""

    records: list[Record] = field(default_factory=list)
    """To be appended to the log and synced before anything else is done."""
    messages: list[tuple[int | None, Message]] = field(default_factory=list)
    """(voter, or None for all others; what)."""
    decisions: list[Decision] = field(default_factory=list)
    proofs: list[Proof] = field(default_factory=list)


class Core:
    """One replica. Not thread-safe: one owner feeds it events, one at a time.

    Parameters
    ----------
    committee : Committee
        The first of the chain; later ones are read from the log.
    signer : object that signs
        Its public key says which voter this is. A key that no voter has makes an observer, who votes never.
    log : iterable of records
        What former lives of this replica appended, in order.
    now_ns : int
        The clock.
    nonce : int
        Not 0 says that this voter's log is lost: it votes again only after 2f+1 others have told, with this number
        signed, how far they are, and the views that it may have voted in are over. Must never have been used before.
    recovered : (int, int), optional
        Of a voter that lost its log and has been told since: what :attr:`recovered` was in a former life.
    check : callable
        Verifies a signature.
    """

    def __init__(
        self,
        committee: Committee,
        signer: Signs,
        application: Application,
        timing: Timing,
        *,
        log: Iterable[Record] = (),
        now_ns: int = 0,
        nonce: int = 0,
        recovered: tuple[int, int] | None = None,
        check: crypto.Verify = crypto.verify,
    ) -> None:
        self._signer, self._application, self._timing, self._check = signer, application, timing, check
        self.chain = Chain(committee, application)
        self._now = now_ns
        self._turn = Turn()
        self._pending = Pool(timing.most_pending, len(committee.keys) + 1)
        self._loss = LostLog(nonce, recovered)
        self._supplied, self._helped, self._asked = (OnceAWhile(timing.supply_ns) for _ in range(3))
        self._standing_at = now_ns + timing.standing_ns
        self.passed_views = 0
        """Since this life began, over all epochs."""
        self.nullified_views = 0
        """Of these, those that failed."""
        self.broken = False
        """Whether two certificates contradict each other: more than f voters are faulty, and nothing is certain."""
        self._moved = now_ns
        """When a view or a block was last over here."""
        self._checked_before = 0
        self._checker = Checker(committee, check)
        self._view = 1
        self._begin_epoch()
        for record in log:
            self._recall(record)
        self._resume()
        if nonce:
            self._say_all(Ask(self.chain.height, (), nonce, self._first_unknown()))
        self._first_words, self._turn = self._turn, Turn()

    # What may be asked at any time.

    @property
    def committee(self) -> Committee:
        """Of the present epoch."""
        return self.chain.committee

    @property
    def voter(self) -> int | None:
        """Number of this replica in the present epoch; None for an observer."""
        return self._voter

    @property
    def view(self) -> int:
        """View it is in."""
        return self._view

    @property
    def open_views(self) -> int:
        """Views of which it keeps anything."""
        return len(self._views)

    @property
    def abstaining(self) -> bool:
        """Whether it must not vote now, having lost its log."""
        return not self._loss.may_vote(self._view)

    @property
    def recovered(self) -> tuple[int, int] | None:
        """Of a voter that lost its log: the epoch, and the first view of it, in which it votes again."""
        return self._loss.recovered

    @property
    def whole(self) -> bool:
        """Whether its log says all that it ever voted in this epoch and later."""
        return self._loss.nonce == 0

    @property
    def halted(self) -> bool:
        """Whether it votes no more: too many views have failed in a row, or certificates contradict each other."""
        return self.broken or self._view - self.chain.view > MOST_OPEN_VIEWS

    @property
    def pending(self) -> int:
        """Requests that wait to be decided."""
        return len(self._pending)

    @property
    def checked(self) -> int:
        """Signatures of voters verified in this life; what requests are signed with, the application verifies."""
        return self._checked_before + self._checker.checked

    def decided(self, body: bytes) -> int | None:
        """Height at which a request, or another one about the same, was decided, if it was."""
        return self.chain.decided(self._application.subject(body))

    @property
    def next_wake(self) -> int:
        """When :meth:`wake` is due, by the clock."""
        view = self._at(self._view)
        marks = [view.leader_deadline, view.deadline, view.retry, view.hint]
        if view.fill is not None and view.fill > self._now:  # a leader that is due and cannot propose waits for news
            marks.append(view.fill)
        if self._unsaid:
            marks.append(self._unsaid[0][0])
        return min([self._standing_at, *(mark for mark in marks if mark is not None)])

    # Events.

    def begin(self) -> Turn:
        """What a replica says first in its life."""
        turn, self._first_words = self._first_words, Turn()
        return turn

    def submit(self, bodies: Sequence[bytes], now_ns: int) -> Turn | None:
        """Take requests of a client; None where there is no room for all. Others hear of what is not proposed at once.

        Raises
        ------
        Malformed
            One is empty or too large; none is taken.
        """
        for body in bodies:
            if not 0 < len(body) <= MOST_REQUEST_BYTES:
                raise Malformed(f"a request of {len(body)} bytes", f"Give 1 to {MOST_REQUEST_BYTES}")
        self._now = now_ns
        fresh = [
            body
            for body in bodies
            if self.decided(body) is None and not self._pending.waits(self._application.subject(body), OWN)
        ]
        brought = [self._brought(body, OWN) for body in fresh]
        if any(brought.count(source) > self._pending.room(source) for source in set(brought)):
            return None
        fresh = [body for body in fresh if self._take(body, OWN)]
        self._work()
        under_way = {
            body
            for view in self._views.values()
            if view.proposal is not None and (view.number == self._view or view.notarised())
            for body in view.proposal.block.requests
        }
        for body in fresh:
            if body not in under_way:
                self._say_all(Request(body))
        return self._ended()

    def handle(self, sender: int, message: Message, now_ns: int) -> Turn:
        """Take a message. ``sender`` is who seems to have sent it: answers go there, and nothing else is believed."""
        self._now = now_ns
        self._lost.discard(sender)
        match message:
            case Vote():
                self._on_vote(sender, message)
            case Proposal():
                self._on_proposal(sender, message)
            case Notice():
                self._on_notice(sender, message)
            case Standing():
                self._on_standing(sender, message)
            case Ask():
                self._on_ask(sender, message)
            case Supply():
                self._on_supply(sender, message)
            case Request():
                if self.decided(message.body) is None:
                    self._take(message.body, sender)
        return self._ended()

    def lost(self, voter: int, now_ns: int) -> Turn:
        """Hear that a voter's process has ended. It is not waited for until it is heard again; an error costs views."""
        self._now = now_ns
        self._lost.add(voter)
        for view in self._views.values():
            if self.committee.leader(view.number) == voter and Kind.FINALIZE in view.own and not view.finalised:
                self._say_all(view.own[Kind.FINALIZE])
        return self._ended()

    def wake(self, now_ns: int) -> Turn:
        """Do what is due by now."""
        self._now = now_ns
        view = self._at(self._view)
        if view.deadline is not None and now_ns >= view.deadline:
            view.late = True
            self._nullify()
            self._say_what_was_under_way(view)
        elif view.leader_deadline is not None and now_ns >= view.leader_deadline:
            view.leader_deadline = None
            if view.proposal is None:
                view.late = True
                self._nullify()
        elif view.hint is not None and now_ns >= view.hint:
            self._hint()
        if view.retry is not None and now_ns >= view.retry:
            self._repeat()
        while self._unsaid and self._unsaid[0][0] <= now_ns:
            self._pass_on(self._unsaid.popleft()[1])
        if now_ns >= self._standing_at:
            self._standing_at = now_ns + self._timing.standing_ns
            self._tell_standing(None, 0)
            if self._loss.asks:
                self._say_all(Ask(self.chain.height, (), self._loss.nonce, self._first_unknown()))
        return self._ended()

    # Messages.

    def _on_vote(self, sender: int, vote: Vote, *, known: bool = False) -> None:
        if self._of_another_epoch(sender, vote.epoch) or not self.committee.counts(vote.voter):
            return
        if vote.view <= self.chain.view:
            if vote.kind is Kind.NULLIFY:  # others come late as a matter of course; this one is stuck
                self._supply(sender)
            return
        if vote.kind is Kind.NULLIFY and vote.view < self._view:
            self._tell_what_is_unsaid(vote.view)
        if vote.view > self._view + AHEAD:
            return  # certificates will bring us there; nobody may make us keep votes of far views
        view = self._at(vote.view)
        if not view.add(vote, self._checker, self._turn.proofs.append, known=known):
            return
        self._heard[vote.voter] = max(self._heard.get(vote.voter, 0), min(vote.view, self._view))
        if vote.kind not in view.certificates:
            made = view.certificate(vote.kind, self._checker)
            if made is not None:
                self._on_certificate(made, known=True)

    def _on_proposal(self, sender: int, proposal: Proposal) -> None:
        block, vote = proposal.block, proposal.vote
        if self._of_another_epoch(sender, block.epoch):
            return
        fits = vote.kind is Kind.NOTARIZE and (vote.epoch, vote.view, vote.digest) == (
            block.epoch,
            block.view,
            block.digest,
        )
        if not fits or vote.voter != self.committee.leader(block.view) or not self.committee.counts(vote.voter):
            return
        if block.view <= self.chain.view or block.view > self._view + AHEAD:
            return
        view = self._at(block.view)
        if view.proposal is None or view.proposal.block.digest != block.digest:
            if not self._checker.vote(vote):
                return
            if view.proposal is None:
                view.proposal = proposal
            self._on_vote(sender, vote, known=True)  # a second block of the leader is proof against it
        if block.digest in self._wanted:
            self._learn(block)

    def _on_notice(self, sender: int, notice: Notice) -> None:
        certificate = notice.certificate
        if self._of_another_epoch(sender, certificate.epoch):
            return
        if not self._on_certificate(certificate) and self._checker.notice(notice):
            self._accuse_of_false_notice(notice)

    def _accuse_of_false_notice(self, notice: Notice) -> None:
        if notice.voter not in self._false:
            self._false.add(notice.voter)
            self._turn.proofs.append(FalseNotice(notice))

    def _on_standing(self, sender: int, standing: Standing) -> None:
        if self._of_another_epoch(sender, standing.epoch):
            return
        if standing.certificate is not None:
            self._on_certificate(standing.certificate)
        if 0 < standing.height <= self.chain.height and self.chain.block(standing.height).digest != standing.tip:
            self._ask(sender, height=0)  # it says that it decided something else: let it prove that, from the start
        elif self._is_a_step_away(standing):
            pass  # what it lacks, or what this replica lacks, is on its way
        elif standing.height > self.chain.height or standing.view > self._view:
            self._ask(sender)
        elif standing.height < self.chain.height or standing.view < self._view:
            self._supply(sender, since=standing.view)
        if self._loss.asks and standing.nonce == self._loss.nonce:
            self._count_answer(standing)

    def _is_a_step_away(self, standing: Standing) -> bool:
        """Whether a voter is at most a view and a block before or behind this one, who has just moved itself."""
        apart = max(abs(standing.height - self.chain.height), abs(standing.view - self._view))
        patience = min(self._pace.factor * self._timing.proposal_ns, self._timing.notice_ns)
        return apart <= 1 and self._now - self._moved < patience

    def _on_ask(self, sender: int, ask: Ask) -> None:
        if ask.nonce:
            self._tell_standing(sender, ask.nonce)
        self._supply(sender, height=ask.height, digests=ask.digests, since=ask.view)

    def _on_supply(self, sender: int, supply: Supply) -> None:
        for finality in supply.final:
            if finality.blocks[-1].epoch > self.committee.epoch:
                self._ask(sender)  # epochs lie between that must be known first
                return
            self._on_finality(finality)
        for block in supply.blocks:
            if block.epoch == self.committee.epoch and block.digest in self._wanted:
                self._learn(block)
        for certificate in supply.certificates:
            if certificate.epoch == self.committee.epoch:
                self._on_certificate(certificate)
        if supply.certificates and self._first_unknown() < self._view:
            self._ask(sender)  # they did not all go into one

    def _on_finality(self, finality: Finality) -> None:
        last = finality.blocks[-1]
        if last.epoch != self.committee.epoch or not finality.holds_together:
            return
        fork = self.chain.fork(finality)
        if fork is None and last.height <= self.chain.height:
            return
        if not self._checker.certificate(finality.certificate):
            return
        if fork is not None:
            self.broken = True
            pairs = [(a, b) for a in fork.certificate.votes for b in finality.certificate.votes]
            self._turn.proofs += [ConflictingVotes(a, b) for a, b in pairs if conflict(a, b)]
            return
        for block in finality.blocks:
            self.chain.add(block)
        self._on_certificate(finality.certificate, known=True)
        self._settle()  # the certificate may have been there, and only its blocks were lacking

    # Certificates.

    def _on_certificate(self, certificate: Certificate, *, known: bool = False) -> bool:
        """Take a certificate of the present epoch; False where it is none."""
        if certificate.view < self.chain.view:
            return True  # it may be one; nobody needs it any more
        seen = self._views.get(certificate.view)
        held = seen.certificates.get(certificate.kind) if seen is not None else None
        if held is not None and held.digest == certificate.digest:
            return True
        if not known and not self._checker.certificate(certificate):
            return False
        view = self._at(certificate.view)  # not before: nobody may make us keep views that nobody was in
        if self._contradicted(view, certificate):
            return True
        if certificate.view == self.chain.view:
            return True
        view.take(certificate, self._checker, self._turn.proofs.append)
        self._turn.records.append(certificate)
        if certificate.kind is Kind.NOTARIZE:
            self._finalise_vote(view, certificate.digest)
        self._tell_of(certificate)
        if certificate.view == self._view:
            self._end_view(view, failed=certificate.kind is Kind.NULLIFY)
        if certificate.view >= self._view:
            self.passed_views += certificate.view + 1 - self._view
            self._view = certificate.view + 1
            self._moved = self._now
        if certificate.kind is not Kind.NULLIFY:
            self._want(certificate.digest)  # last, with what follows: what was wanted may end the epoch
        self._settle()
        return True

    def _end_view(self, view: View, *, failed: bool) -> None:
        self.nullified_views += failed
        if view.begun is None:
            return  # it was over before anything was to be done in it here, and says nothing of the pace
        share = (self._now - view.begun) / (self._pace.factor * self._timing.view_ns)
        if not failed:
            self._pace.passed(share)
        elif view.late:
            self._pace.failed(share, own=self.committee.leader(view.number) == self._voter)

    def _contradicted(self, view: View, certificate: Certificate) -> bool:
        """Whether a certificate cannot be genuine beside another one: more than f have lied, and all who did are named.

        A notarisation beside a nullification is no contradiction.
        """
        found = False
        for held in view.certificates.values():
            if held.kind is not certificate.kind and {held.kind, certificate.kind} != FORBIDDEN:
                continue
            pairs = [(a, b) for a in held.votes for b in certificate.votes if conflict(a, b)]
            found = found or bool(pairs)
            self._turn.proofs += [ConflictingVotes(a, b) for a, b in pairs]
        self.broken = self.broken or found
        return found

    def _finalise_vote(self, view: View, digest: bytes) -> None:
        """The rule: who has given a view up, never finalises it."""
        if not view.own.keys() & FORBIDDEN and self._may_vote(view.number):
            leader = self.committee.leader(view.number)
            waited_for = leader not in self._lost and self.committee.counts(leader)
            self._vote(view, Kind.FINALIZE, digest, leader if waited_for else None)

    def _settle(self) -> None:
        """Make final whatever has a finalisation and no gap below it."""
        certified = [view.certificates[Kind.FINALIZE] for view in self._views.values() if view.finalised]
        for certificate in sorted(certified, key=lambda c: -c.view):
            path = self.chain.path(certificate.digest)
            if path is None:
                self._want(certificate.digest)
            if not path:
                continue
            before = self.committee
            made = self.chain.finalise(path, certificate)
            finality = self.chain.proof(made[-1].height)
            self._turn.records.append(finality)
            for block in made:
                for body in block.requests:
                    self._pending.drop(self._application.subject(body))
                self._turn.decisions.append(Decision(block, finality))
            self._moved = self._now
            if self.committee is before:
                self._prune()
            else:
                self._pass_on(certificate)
                self._begin_epoch()
            return

    # Voting.

    def _consider(self) -> None:
        """Vote for the present view's proposal, if it is well founded and valid; ask for what it rests on."""
        view = self._at(self._view)
        if view.proposal is None or view.own.keys() & {Kind.NOTARIZE, Kind.NULLIFY} or not self._may_vote(view.number):
            return
        block = view.proposal.block
        founded = self._founded(block)
        if founded is None:
            if not view.asked:
                view.asked = self._ask(view.proposal.vote.voter, since=self._first_lacking(block))
            return
        if not founded:
            self._nullify()
            return
        self._learn(block)
        for body in block.requests:
            self._take(body, view.proposal.vote.voter)  # should this view fail, another leader proposes it again
        self._turn.records.append(block)
        self._vote(view, Kind.NOTARIZE, block.digest)

    def _founded(self, block: Block) -> bool | None:
        """Whether a block of the present view may be voted for; None while that cannot be told."""
        path: list[Block]
        if block.parent_view < self.chain.view:
            return False  # it steps over a final block
        for number in range(block.parent_view + 1, block.view):
            if number not in self._views or not self._views[number].nullified:
                return None
        if block.parent_view == self.chain.view:
            if block.parent != self.chain.tip:
                return False
            path = []
        else:
            parent_view = self._views.get(block.parent_view)
            notarised = parent_view.notarised() if parent_view is not None else None
            if notarised is None:
                return None
            if notarised != block.parent:
                return False
            known = self.chain.path(block.parent)
            if known is None:
                self._want(block.parent)
                return None
            path = known
        return block.height == self.chain.height + len(path) + 1 and self.chain.acceptable(block, path)

    def _first_lacking(self, block: Block) -> int:
        """The first view of which a block rests on a certificate that is not known here: another one may be.

        Of a view that ended in two ways some know the one and some the other, and each is passed on only once.
        """
        for number in range(max(block.parent_view, self.chain.view + 1), block.view):
            view = self._views.get(number)
            if view is None or not (view.notarised() if number == block.parent_view else view.nullified):
                return number
        return block.view

    def _propose(self) -> None:
        """Lead the present view, where there is anything to do."""
        view = self._at(self._view)
        if self._voter is None or self.committee.leader(view.number) != self._voter or view.own:
            return
        if view.proposal is not None or not self._may_vote(view.number):
            return
        parent = self._parent()
        if parent is None:
            if not view.asked:  # it has come here past a view of which it has no certificate
                view.asked = self._ask(None)
            return
        parent_view, digest = parent
        path = self.chain.path(digest)
        if path is None:
            self._want(digest)
            return
        requests = self._chosen(path)
        if not requests and path and view.fill is None:
            view.fill = self._now + self._pace.factor * self._timing.view_ns // 2
        if not requests and (view.fill is None or self._now < view.fill):
            return
        height = self.chain.height + len(path) + 1
        block = Block(self.committee.epoch, view.number, height, parent_view, digest, requests)
        self._learn(block)
        self._turn.records.append(block)
        vote = self._signed(Kind.NOTARIZE, view.number, block.digest)
        view.proposal, view.fill = Proposal(block, vote), None
        self._cast(view, vote, view.proposal)

    def _parent(self) -> tuple[int, bytes] | None:
        """(view, digest) of the block to build on; None while a view behind it is neither notarised nor nullified."""
        for number in range(self._view - 1, self.chain.view, -1):
            view = self._views.get(number)
            digest = view.notarised() if view is not None else None
            if digest is not None:
                return number, digest
            if view is None or not view.nullified:
                return None
        return self.chain.view, self.chain.tip

    def _chosen(self, path: Sequence[Block]) -> tuple[bytes, ...]:
        """Requests to propose behind these ancestors, of each source in turn; a change of the committee goes alone."""
        if self.chain.full(path):
            return ()
        before = self.chain.subjects(path)
        chosen: list[bytes] = []
        room, unfit = MOST_BLOCK_BYTES, 0
        for subject, body in self._pending.in_turn():
            if len(chosen) == MOST_REQUESTS or unfit == MOST_REQUESTS:
                break
            if len(body) > room:
                unfit += 1
                continue
            if subject in before or not self.chain.valid(body):
                continue
            if self._application.change(body) is not None:
                return (body,)
            chosen.append(body)
            room -= len(body)
        return tuple(chosen)

    def _nullify(self) -> None:
        """Give the present view up."""
        view = self._at(self._view)
        view.leader_deadline = view.deadline = view.fill = None
        if view.retry is None:
            view.retry = self._now + self._pace.pause(0) * self._timing.repeat_ns
        if not view.own.keys() & FORBIDDEN and self._may_vote(view.number):
            self._vote(view, Kind.NULLIFY, NOTHING)

    def _vote(self, view: View, kind: Kind, digest: bytes, reader: int | None = None) -> None:
        vote = self._signed(kind, view.number, digest)
        self._cast(view, vote, vote, reader)

    def _cast(self, view: View, vote: Vote, message: Message, reader: int | None = None) -> None:
        self._turn.records.append(vote)
        view.own[vote.kind] = vote
        if reader != self._voter:
            self._turn.messages.append((reader, message))
        self._cast_votes.append(vote)

    def _signed(self, kind: Kind, view: int, digest: bytes) -> Vote:
        assert self._voter is not None
        c = self.committee
        signature = self._signer.sign(vote_bytes(c.chain, kind, c.epoch, view, digest))
        return Vote(kind, c.epoch, view, digest, self._voter, signature)

    def _may_vote(self, view: int) -> bool:
        sits = self._voter is not None and self.committee.counts(self._voter)
        return sits and not self.halted and self._loss.may_vote(view)

    # Views and epochs.

    def _begin_epoch(self) -> None:
        keys = self.committee.keys
        self._voter = keys.index(self._signer.public) if self._signer.public in keys else None
        self._checked_before += self._checker.checked
        self._checker = Checker(self.committee, self._check)
        self._views: dict[int, View] = {}
        self._view = 1
        self._cast_votes: deque[Vote] = deque()
        self._unsaid: deque[tuple[int, Certificate]] = deque()
        """(when they are passed on, certificates), unless that is needless by then."""
        self._heard = dict.fromkeys(range(len(keys)), 1)
        self._lost: set[int] = set()
        self._wanted: set[bytes] = set()
        self._false: set[int] = set()
        self._pace = Pace(len(keys), self.committee.faults)
        self._loss.begin_epoch(self.committee.epoch, self.chain.last_view)
        # What only the epoch before could decide must go: it would keep views running that nobody can propose in.
        self._pending = self._pending.kept(self.chain.valid, len(keys) + 1)

    def _work(self) -> None:
        """Do what the state of things asks for: count own votes, vote, propose, set timers where there is work."""
        while True:
            while self._cast_votes:
                vote = self._cast_votes.popleft()
                self._on_vote(vote.voter, vote, known=True)
            self._consider()
            if self._busy():
                self._arm()
                self._skip_leader()
                self._propose()
            else:
                self._disarm()
            if not self._cast_votes:
                return

    def _busy(self) -> bool:
        """Whether there is anything to decide."""
        view = self._at(self._view)
        if self._pending or view.proposal is not None or view.attended(self._checker):
            return True
        return any(other.notarised() is not None for other in self._views.values() if other.number > self.chain.view)

    def _skip_leader(self) -> None:
        """Wait for no leader that was silent in its turns, whose process has ended, or that has given its view up."""
        leader, view = self.committee.leader(self._view), self._at(self._view)
        silent = leader in self._lost or self._view - self._heard[leader] > self._timing.skip_views
        # The leader's word counts with its signature: else anybody could end a view.
        if (silent or view.given_up_by(leader, self._checker)) and leader != self._voter and view.retry is None:
            self._nullify()

    def _arm(self) -> None:
        view = self._at(self._view)
        # Who comes back with a vote for a proposal says it again, and may still have to give its view up.
        given_up = view.own.keys() & FORBIDDEN or not self._may_vote(view.number)
        if view.deadline is None and not (view.retry is not None and given_up):
            view.begun = self._now
            view.leader_deadline = view.deadline = self._now + self._pace.factor * self._timing.view_ns
            if any(unsaid.kind is Kind.NULLIFY for _, unsaid in self._unsaid):
                view.hint = self._now + self._pace.factor * self._timing.proposal_ns // 2
        due = self._now + self._pace.factor * self._timing.proposal_ns
        if (
            view.proposal is None
            and view.leader_deadline is not None
            and due < view.leader_deadline
            and self._proposal_is_due()
        ):
            view.leader_deadline = due
            view.hint = self._now + self._pace.factor * self._timing.proposal_ns // 2

    def _proposal_is_due(self) -> bool:
        """Whether the leader should propose now, and not only a block that helps one before it.

        Not where a block behind it is not final or not known: it may know other requests than this replica, or another
        end of a view, and wait before it helps.
        """
        return bool(self._pending) and self._parent() == (self.chain.view, self.chain.tip)

    def _hint(self) -> None:
        """Tell a leader that proposes nothing of a request, and how views before ended: others may have kept both from
        it. That one failed also those who, for all that is known here, did not give it up."""
        leader, view = self.committee.leader(self._view), self._at(self._view)
        view.hint = None
        waited_for = {leader} if view.proposal is None else set()
        if waited_for and view.deadline is not None and leader != self._voter:
            self._turn.messages += [(leader, Request(body)) for body in self._chosen(())[:1]]
        for _, certificate in list(self._unsaid):
            ended, led = self._at(certificate.view), self.committee.leader(certificate.view)
            failed = certificate.kind is Kind.NULLIFY
            others = set(range(len(self.committee.keys))) - {led} if failed else set()
            silent = {voter for voter in others if not ended.given_up_by(voter, self._checker)}
            self._pass_on(certificate, sorted((silent | waited_for) - self._lost - {self._voter}))

    def _say_what_was_under_way(self, view: View) -> None:
        """Tell of what own clients asked for in a block that others have perhaps not seen."""
        for body in view.proposal.block.requests if view.proposal is not None else ():
            if self._pending.waits(self._application.subject(body), OWN):
                self._say_all(Request(body))

    def _disarm(self) -> None:
        view = self._at(self._view)
        view.begun = view.leader_deadline = view.deadline = view.fill = view.hint = None
        if not view.own:
            view.retry = None

    def _repeat(self) -> None:
        """Say again what was said in this view, and how far this replica is: something was lost, or somebody is."""
        view = self._at(self._view)
        view.repeats += 1
        view.retry = self._now + self._pace.pause(view.repeats) * self._timing.repeat_ns
        for vote in view.own.values():
            self._say_all(vote)
        if view.proposal is not None and view.proposal.vote.voter == self._voter:
            self._say_all(view.proposal)
        before = self._views.get(self._view - 1)
        if before is not None and Kind.FINALIZE in before.own:
            self._say_all(before.own[Kind.FINALIZE])
        for _, body in islice(self._pending.in_turn(), REPEATED_REQUESTS):
            self._say_all(Request(body))
        self._tell_standing(None, 0)
        if self._wanted or self._first_unknown() < self._view:
            self._ask(None)

    def _at(self, number: int) -> View:
        view = self._views.get(number)
        if view is None:
            view = self._views[number] = View(number)
        return view

    def _prune(self) -> None:
        floor = self.chain.view
        self._views = {number: view for number, view in self._views.items() if number >= floor}
        self._unsaid = deque(
            (due, c) for due, c in self._unsaid if c.view > floor or (c.view == floor and c.kind is Kind.FINALIZE)
        )
        self._wanted = {
            digest for digest in self._wanted if self.chain.find(digest) is None and digest != self.chain.tip
        }

    # Blocks and catching up.

    def _take(self, body: bytes, source: int) -> bool:
        """Let a request wait that a voter, somebody else or an own client has brought; False where it is not to."""
        brought = self._brought(body, source)
        if self._pending.room(brought) <= 0 or not self.chain.valid(body):
            return False
        return self._pending.add(self._application.subject(body), body, brought)

    def _brought(self, body: bytes, source: int) -> int:
        """Where a request waits that somebody has brought: strangers share a source, and so does what goes first."""
        if self._application.change(body) is not None:
            return CHANGES
        return source if source == OWN or 0 <= source < len(self.committee.keys) else len(self.committee.keys)

    def _learn(self, block: Block) -> None:
        """Keep a block; what is wanted next is its unknown ancestor, if a certificate speaks of it."""
        self.chain.add(block)
        if block.digest in self._wanted and self.chain.find(block.digest) is not None:
            self._wanted.discard(block.digest)
            if block.parent_view > self.chain.view:
                self._want(block.parent)
            self._settle()

    def _want(self, digest: bytes) -> None:
        missing = self.chain.missing(digest)
        if missing is None or missing in self._wanted:
            return
        self._wanted.add(missing)
        for view in self._views.values():
            if view.proposal is not None and view.proposal.block.digest == missing:
                self._learn(view.proposal.block)
                return
        self._ask(None)

    def _ask(self, voter: int | None, *, height: int | None = None, since: int | None = None) -> bool:
        """Ask somebody, or all, for what is lacking; not more often than is of use, whoever says that he has it.

        Certificates are asked for from the first view on of which none is known, or from an earlier one. Whether the
        question was asked now.
        """
        if (voter is not None and voter == self._voter) or not self._asked.due(voter, self._now):
            return False
        above = self.chain.height if height is None else height
        wanted = tuple(sorted(self._wanted))[:MOST_WANTED]
        unknown = self._first_unknown()
        self._turn.messages.append((voter, Ask(above, wanted, 0, unknown if since is None else min(since, unknown))))
        return True

    def _first_unknown(self) -> int:
        """The first view that is over here and of which no certificate is known; the present one if there is none."""
        over = range(self.chain.view + 1, self._view)
        return next((n for n in over if n not in self._views or not self._views[n].certificates), self._view)

    def _supply(self, voter: int, *, height: int | None = None, digests: Sequence[bytes] = (), since: int = 0) -> None:
        """Send somebody what it may lack, of views from one on, not more often than is of use.

        Who has not said how far it is gets the last proof of finality, which shows how far it is behind. Who has it
        gets what it asks for instead: the proof may be as large as all that a supply has room for. Neither is in the
        way of the other: who is helped unasked sees what it lacks, and asks for that at once.
        """
        given = self._helped if height is None else self._supplied
        if voter == self._voter or not given.due(voter, self._now):
            return
        above = self.chain.height - 1 if height is None else height
        final, blocks = self.chain.supply(above, digests[:MOST_WANTED])
        open_views = sorted(number for number in self._views if number > max(self.chain.view, since - 1))
        certificates = [c for number in open_views for c in self._views[number].certificates.values()]
        supply = Supply(final, blocks, tuple(certificates[:MOST_CERTIFICATES]))
        if supply.final or supply.blocks or supply.certificates:
            self._turn.messages.append((voter, supply))

    def _of_another_epoch(self, sender: int, epoch: int) -> bool:
        """Whether something is of another epoch: who is behind is helped, who is ahead is asked."""
        if epoch < self.committee.epoch:
            self._supply(sender)
        elif epoch > self.committee.epoch:
            self._ask(sender)
        return epoch != self.committee.epoch

    def _tell_standing(self, voter: int | None, nonce: int) -> None:
        if self._voter is None or (nonce and self.abstaining):
            return  # who has lost its own log does not know how far it was
        c, before = self.committee, self._views.get(self._view - 1)
        known = None if before is None else next(iter(before.certificates.values()), None)
        height, tip = self.chain.height, self.chain.tip
        signature = self._signer.sign(standing_bytes(c.chain, c.epoch, self._view, height, tip, nonce))
        standing = Standing(c.epoch, self._view, height, tip, known, self._voter, nonce, signature)
        if voter is None:
            self._say_all(standing)
        else:
            self._turn.messages.append((voter, standing))

    def _count_answer(self, standing: Standing) -> None:
        self._loss.hear(standing, self._voter, self.committee, self._checker)

    # The log.

    def _recall(self, record: Record) -> None:
        """Take up a record of a former life."""
        match record:
            case Finality():
                if record.blocks[-1].epoch != self.committee.epoch:
                    return
                path = [block for block in record.blocks if block.height > self.chain.height]
                before = self.committee
                if path:
                    self.chain.finalise(path, record.certificate)
                if self.committee is before:
                    self._prune()
                else:
                    self._begin_epoch()
            case Block():
                self.chain.add(record)
            case Certificate():
                if record.epoch == self.committee.epoch and record.view >= self.chain.view:
                    self._at(record.view).certificates[record.kind] = record
            case Vote():
                if record.epoch == self.committee.epoch and record.view > self.chain.view:
                    view = self._at(record.view)
                    view.own[record.kind] = record
                    view.add(record, self._checker, self._turn.proofs.append, known=True)

    def _resume(self) -> None:
        """Go on where the former life stopped; what it proposed in the present view, it may say again."""
        ended = [number for number, view in self._views.items() if view.certificates]
        voted = [number for number, view in self._views.items() if view.own.keys() - {Kind.FINALIZE}]
        self._view = max([self.chain.view + 1, *(number + 1 for number in ended), *voted])
        self._heard = dict.fromkeys(self._heard, self._view)
        view = self._at(self._view)
        vote = view.own.get(Kind.NOTARIZE)
        block = self.chain.find(vote.digest) if vote is not None else None
        if vote is not None and block is not None and self.committee.leader(view.number) == self._voter:
            view.proposal = Proposal(block, vote)
        if view.own:
            view.retry = self._now
        self._settle()

    # Speaking.

    def _tell_of(self, certificate: Certificate) -> None:
        """Pass a certificate on: at once if the others lack it, as those do whose votes came to this leader alone, or
        if what this voter is about to propose rests on it."""
        failed = certificate.kind is Kind.NULLIFY
        leads = self.committee.leader(certificate.view + failed) == self._voter
        if leads and certificate.kind is not Kind.NOTARIZE:
            self._pass_on(certificate)
        else:
            self._unsaid.append((self._now + self._timing.notice_ns, certificate))

    def _tell_what_is_unsaid(self, view: int) -> None:
        """Somebody has given a view up, and does not know that it ended otherwise: say now what would be said later."""
        told = [c for _, c in self._unsaid if c.view == view and c.kind is not Kind.NULLIFY]
        self._unsaid = deque((due, c) for due, c in self._unsaid if c not in told)
        for certificate in told:
            self._pass_on(certificate)

    def _pass_on(self, certificate: Certificate, readers: Sequence[int | None] = (None,)) -> None:
        """Tell all others, or some voters, of a certificate."""
        if self._voter is not None and readers:
            signature = self._signer.sign(notice_bytes(self.committee.chain, certificate))
            notice = Notice(certificate, self._voter, signature)
            self._turn.messages += [(reader, notice) for reader in readers]

    def _say_all(self, message: Message) -> None:
        self._turn.messages.append((None, message))

    def _ended(self) -> Turn:
        self._work()
        turn, self._turn = self._turn, Turn()
        return turn
