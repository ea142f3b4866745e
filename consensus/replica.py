"""A replica: one thread that owns a core and its log, and does what the core says, disk before network.

A turn of its loop takes what lies in the inbox, feeds it to the core, appends every record of the turn with one sync,
and only then tells who waits for a decision, and the peers: each by one call with all that it shall hear. A full inbox
drops what comes, since the protocol says everything again; nothing that arrives here raises. Whatever fails while the
log is written ends the replica, which says so and votes no more.

How messages travel is not known here: ``send`` is given.
"""

from __future__ import annotations

import math
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, Protocol

from cluster.errors import Overloaded, SwarmError
from consensus import ballots, decisions, rules
from consensus.ballots import Ballot, Choice, Estimate, Quarantine
from consensus.errors import BadBallot, BadEvidence, NotCarried, Refused, StaleEpoch
from consensus.letters import Letters
from consensus.motions import NUMBER, Motion, in_time, motion_of, question_of
from consensus.peers import STRANGER, Peers
from consensus.rules import Rules
from consensus.seats import Seat
from consensus.settings import ConsensusSettings, timing_of
from consensus.simplex import crypto, proofs
from consensus.simplex.core import Core, Record, Turn
from consensus.simplex.crypto import KeyUnusable
from consensus.simplex.proofs import Proof
from consensus.simplex.types import Block, Malformed, decode, encode, unpacked
from consensus.waiting import Answer, Question, Waiting

MOST_A_TURN: Final = 512
"""Events of one turn of the loop, so that one sync serves many and none waits long."""
MOST_WAITERS: Final = 4096
MOST_PATIENCE_S: Final = 600.0
MOST_KEPT: Final = 64
"""Proofs, and what a status shows of refusals and the like; more than a committee has voters."""
LONGEST_SLEEP_S: Final = 0.5
TEND_NS: Final = 1_000_000_000


class Ears(Protocol):
    """Through which the owner of the core hears peers itself, and rests until one speaks or somebody wakes it."""

    def seen(self) -> int:
        """To be asked for before looking for what :meth:`wake` is called for."""
        ...

    def wake(self) -> None:
        """Let a rest end, also one that begins after this with what was seen before it."""
        ...

    def hear(self) -> None:
        """Take to :meth:`Replica.heard` what peers said, and to :meth:`Replica.lost` whose processes have ended."""
        ...

    def rest(self, patience_s: float, seen: int) -> None:
        """Sleep a little, at most so long."""
        ...


Send = Callable[[list[int], list[bytes]], int]
"""(peers, messages for each of them) -> how many could not be reached. Must neither wait nor raise."""
Judge = Callable[[Motion, int], tuple[Choice, str]]
Estimator = Callable[[str, int], float]
"""(question, when the answer is worth nothing any more, UTC ns) -> this voter's own number; raises why it has none."""


@dataclass(frozen=True, slots=True)
class _Lost:
    """A peer's process has ended."""

    peer: int


@dataclass(slots=True)
class _Work:
    """Something to be done by the thread that owns the core."""

    work: Callable[[], Any]
    future: Future[Any]


_Event = tuple[int, bytes] | Question | _Lost | _Work


@dataclass
class Counters:
    """What a replica has done in this life."""

    turns: int = 0
    received: int = 0
    sent: int = 0
    letters: int = 0
    """To one peer each, with all that it was told in a turn."""
    dropped: int = 0
    """Messages and questions that found the inbox full."""
    unsent: int = 0
    """Letters that a peer's queue had no room for."""
    strange: int = 0
    """Messages for which no known peer vouches."""
    garbage: int = 0
    """Messages that were none."""
    requests: int = 0
    ballots_verified: int = 0
    """Signatures of ballots, estimates and accusations; those of the protocol are counted by the core."""
    decisions: int = 0
    """Motions that were decided; of a block as many as it holds."""
    refusals: int = 0
    core_ns: int = 0
    sync_ns: int = 0
    send_ns: int = 0
    longest_sync_ns: int = 0


class Replica:
    """One voter at work.

    Parameters
    ----------
    seat : Seat
        Founded, in a committee.
    send : callable
        Hands messages to peers, by the numbers of their seats.
    judge : callable
        The word of this voter as an elector.
    estimator : callable
        This voter's own numbers.
    number : int, optional
        Of its seat, where it did not found the committee: founding voters have their places in it, later ones the
        numbers behind, each used once.

    Raises
    ------
    KeyUnusable, LogUnusable
        It must not vote.
    """

    def __init__(
        self,
        seat: Seat,
        settings: ConsensusSettings,
        send: Send,
        judge: Judge = rules.judge,
        number: int | None = None,
        estimator: Estimator = rules.no_estimate,
    ) -> None:
        self._seat, self._settings, self._send, self._judge = seat, settings, send, judge
        self._estimator = estimator
        self._timing = timing_of(settings)
        self.first = decisions.read_committee(seat.committee)
        self._signer = seat.signer(may_make=False)
        founders = self.first.keys
        if self._signer.public in founders:
            number = founders.index(self._signer.public)
        elif number is None or number < len(founders):
            raise KeyUnusable(f"the key {seat.key} is no voter's of {seat.committee}", "Restore the voter's own key")
        self.peers = Peers(self._signer, self.first, number, lambda: self._core.committee)
        self._log, nonce, self._recovered = seat.open(self.first, self._signer)
        self.counters = Counters()
        self._rules = Rules(lambda: self._core.chain.committees, self._verified)
        try:
            self._core = Core(
                self.first,
                self._signer,
                self._rules,
                self._timing,
                log=self._log.records,
                now_ns=time.monotonic_ns(),
                nonce=nonce,
                recovered=self._recovered,
            )
        except BaseException:
            self._log.close()
            raise
        self._cut = self._log.cut
        self._recalled = len(self._log.records)
        self._log.records = []  # the core has taken them up
        self.failure = ""
        """Why it votes no more; empty while it does."""
        self._waiting = Waiting()
        self._evidence: dict[int, bytes] = {}
        self._proofs: dict[bytes, Proof] = {}
        """One against each public key that was proved faulty: it holds in whatever epoch the key votes."""
        self._noted: deque[dict[str, Any]] = deque(maxlen=MOST_KEPT)
        self._tended_ns = 0
        self._epoch = self._core.committee.epoch
        self._lost = nonce != 0
        self._letters = Letters(settings.inbox)
        self._inbox: deque[Question | _Lost | _Work] = deque()
        self._news = threading.Condition()
        self._closing = False
        self._ears: Ears | None = None
        for height in range(1, self._core.chain.height + 1):
            self._enter(self._core.chain.block(height))
        self._thread = threading.Thread(target=self._live, name="replica", daemon=True)

    def listen(self, ears: Ears) -> None:
        """Hear peers through these too, from :meth:`start` on."""
        self._ears = ears

    def start(self) -> None:
        """Begin to take part."""
        self._thread.start()

    def close(self) -> None:
        """Stop, and let go of the log. Peers see a replica that is silent."""
        with self._news:
            self._closing = True
        self._wake()
        if self._thread.ident is not None:
            self._thread.join()
        self._release()
        self._log.close()

    # For peers.

    def deliver(self, sender: int, messages: Sequence[bytes]) -> None:
        """Take messages that a peer seems to have sent. Never raises, never waits.

        A lane says itself whose it is. Where anybody can call, such as over Ray, :meth:`.Peers.vouched` says so: who
        has no token shares the room of all strangers, and takes none from a peer.
        """
        self.heard(sender, messages)
        self._wake()

    def heard(self, sender: int, messages: Sequence[bytes]) -> None:
        """As :meth:`deliver`, from the owner of the core, who does not sleep."""
        with self._news:
            directory = self.peers.directory
            known = isinstance(sender, int) and sender in directory
            self.counters.strange += 0 if known else len(messages)
            self.counters.dropped += self._letters.put(
                sender if known else STRANGER, messages, time.monotonic_ns(), known=known, peers=len(directory)
            )

    def lost(self, peer: int) -> None:
        """Hear that a peer's process has ended. Never raises, never waits."""
        self._put(_Lost(peer))

    # For clients.

    def ballots(self, motions: Sequence[bytes]) -> tuple[int, tuple[int, int], list[Ballot | SwarmError]]:
        """The epoch, the seats that lead now and in the next view, and this voter's ballot on each motion (packed
        fields), or why it gives none; nothing of who is no voter in this epoch."""
        committee, view = self._core.committee, self._core.view
        leads = committee.leader(view), committee.leader(view + 1)
        now, then = (next(iter(self.peers.seats_of(leader)), self.peers.number) for leader in leads)
        if self._signer.public not in committee.keys:
            return committee.epoch, (now, then), []
        said: list[tuple[Motion, Choice, str]] = []
        refused: list[SwarmError | None] = []
        for data in motions:
            try:
                motion = motion_of(unpacked(data))
                if self._core.voter in committee.quarantined:
                    raise BadBallot("this voter is quarantined, and its ballots count no more", "Ask the others")
                choice, reason = self._judge(motion, time.time_ns())
                if choice is Choice.APPROVE and (why_not := rules.unfit(motion, committee)):
                    choice, reason = Choice.REJECT, why_not
                ballots.check_reason(reason)
                said.append((motion, choice, reason))
                refused.append(None)
            except (Refused, Malformed) as error:
                self._note("refused", str(error))
                refused.append(error)
        signed = iter(ballots.ballots_on(said, self._signer, committee))
        return committee.epoch, (now, then), [next(signed) if why is None else why for why in refused]

    def estimates(self, motions: Sequence[bytes]) -> tuple[int, list[Estimate | SwarmError]]:
        """The epoch, and this voter's own number for each motion that asks for one (packed fields), or why it has none.

        That may take as long as the motion does, or as anybody may wait; nothing of who is no voter in this epoch.
        """
        committee = self._core.committee
        given: list[Estimate | SwarmError] = []
        latest_utc_ns = time.time_ns() + int(MOST_PATIENCE_S * 1e9)
        for data in motions if self._signer.public in committee.keys else ():
            try:
                motion = motion_of(unpacked(data))
                if motion.kind != NUMBER:
                    raise NotCarried(f"a {motion.kind} is no question for a number", "Ask for ballots on it")
                in_time(motion, time.time_ns())
                text, _ = question_of(motion.payload)
                value = self._own_number(text, min(motion.expires_utc_ns, latest_utc_ns))
                given.append(ballots.estimate(self._signer, committee, motion, value))
            except SwarmError as error:
                self._note("refused", str(error))
                given.append(error)
        return committee.epoch, given

    def _own_number(self, text: str, until_utc_ns: int) -> float:
        try:
            value = float(self._estimator(text, until_utc_ns))
        except SwarmError:
            raise
        except Exception as error:
            raise BadBallot(f"this voter has no number ({type(error).__name__}: {error})", "Ask again") from error
        if not math.isfinite(value):
            raise BadBallot(f"this voter's number is {value}", "Ask for one that is finite")
        return value

    def decide(self, bodies: Sequence[bytes], patience_s: float) -> list[Answer]:
        """Have requests decided, and wait for that. The same request may come again: it is decided once.

        Returns
        -------
        list of Answer
            One for each; empty where no decision came in time.
        """
        if not bodies:
            return []
        now_ns = time.monotonic_ns()
        patience_s = min(patience_s, MOST_PATIENCE_S)
        give_up_ns = now_ns + int(patience_s * 1e9)
        asked = Question(bodies, now_ns, give_up_ns)
        refusal = self._put(asked)
        if refusal is not None:
            return [Answer(refusal=refusal)] * len(bodies)
        try:
            return asked.future.result(timeout=patience_s)
        except FutureTimeout:
            return asked.answers

    def found(self, identities: Sequence[bytes]) -> list[Answer]:
        """Decisions by id, as far as this replica knows them."""
        answers: list[Answer] = self._by_owner(lambda: [self._decided(identity) for identity in identities])
        return answers

    def log(self, above: int, most: int) -> list[tuple[bytes, int, bytes]]:
        """(id, height, what proves it) of decisions above a height, lowest first."""

        def entries() -> list[tuple[bytes, int, bytes]]:
            chain = self._core.chain
            found: list[tuple[bytes, int, bytes]] = []
            for height in range(above + 1, chain.height + 1):
                found += [
                    (identity, height, self._evidence_of(height))
                    for identity in map(self._rules.subject, chain.block(height).requests)
                    if chain.decided(identity) == height
                ]
                if len(found) >= most:
                    break
            return found

        listed: list[tuple[bytes, int, bytes]] = self._by_owner(entries)
        return listed

    def ends(self, epoch: int) -> list[bytes]:
        """What proves how this epoch and the later ones ended, and so who votes now."""

        def held() -> list[bytes]:
            chain = self._core.chain
            return [decisions.end_of(chain, committee) for committee in chain.committees[epoch + 1 :]]

        found: list[bytes] = self._by_owner(held)
        return found

    def evidence(self) -> list[bytes]:
        """Proofs of misconduct that this replica holds."""
        return [proofs.encode(proof) for proof in list(self._proofs.values())]

    @property
    def guilty(self) -> list[tuple[bytes, Proof]]:
        """Voters of the present epoch that are proved faulty: public key, and proof."""
        present = self._core.committee.keys
        return [(key, proof) for key, proof in list(self._proofs.items()) if key in present]

    @property
    def quarantined(self) -> list[bytes]:
        """Public keys of the voters that are quarantined in the present epoch."""
        committee = self._core.committee
        return [committee.keys[voter] for voter in sorted(committee.quarantined)]

    def status(self) -> dict[str, Any]:
        """How it fares; numbers are of this life."""
        core, counters = self._core, self.counters
        committee = core.committee
        return {
            "number": self.peers.number,
            "public": self._signer.public.hex(),
            "voter": core.voter,
            "voters": len(committee.keys),
            "epoch": committee.epoch,
            "view": core.view,
            "height": core.chain.height,
            "tip": core.chain.tip.hex(),
            "leader": committee.leader(core.view),
            "quarantined": sorted(committee.quarantined),
            "abstaining": core.abstaining,
            "halted": core.halted,
            "failure": self.failure,
            "pending": core.pending,
            "waiting": self._waiting.count,
            "passed_views": core.passed_views,
            "nullified_views": core.nullified_views,
            "signatures_verified": core.checked,
            "syncs": self._log.syncs,
            "recalled": self._recalled,
            "cut_bytes": self._cut,
            "proofs": len(self._proofs),
            "noted": list(self._noted),
            "latency_histogram_us": self._waiting.histogram[:],
            **{name: getattr(counters, name) for name in counters.__dataclass_fields__},
        }

    @property
    def votes(self) -> bool:
        """Whether this replica's key is a voter's in the present epoch."""
        return self._signer.public in self._core.committee.keys

    @property
    def place(self) -> int:
        """Number of its voter in the present epoch, which no two share; 0 where it does not vote."""
        return self._core.voter or 0

    @property
    def trouble(self) -> str:
        """Why it does not take part in full; empty while it does."""
        core = self._core
        if self.failure:
            return self.failure
        if core.broken:
            return "two certificates contradict each other: more than f voters are faulty; a person must look"
        if core.halted:
            return "too many views have failed in a row; a person must look"
        if core.voter in core.committee.quarantined:
            return "was proved faulty and is quarantined by agreement"
        if core.abstaining:
            return "has lost its log and abstains until it has caught up"
        return ""

    # The thread that owns core and log.

    def _live(self) -> None:
        try:
            self._carry_out([self._core.begin()])
            while not self._closing:
                self._turn(self._taken())
        except Exception as error:
            self.failure = f"votes no more ({type(error).__name__}: {error})"
            self._release()

    def _taken(self) -> list[_Event]:
        """What lies in the inbox; waits for something, or for the core's next wake-up."""
        if self._ears is not None:
            seen = self._ears.seen()
            self._ears.hear()
            if (wait_s := self._idle_s()) > 0:
                self._ears.rest(wait_s, seen)
                self._ears.hear()
        with self._news:
            if self._ears is None and (wait_s := self._idle_s()) > 0:
                self._news.wait(wait_s)
            events: list[_Event] = [self._inbox.popleft() for _ in range(min(len(self._inbox), MOST_A_TURN))]
            return events + self._letters.take(MOST_A_TURN)

    def _idle_s(self) -> float:
        """How long there is nothing to do, if nothing comes."""
        if self._inbox or self._closing or self._letters:
            return 0.0
        return min(LONGEST_SLEEP_S, (self._core.next_wake - time.monotonic_ns()) / 1e9)

    def _turn(self, events: list[_Event]) -> None:
        began_ns = time.monotonic_ns()
        core, counters = self._core, self.counters
        turns: list[Turn] = []
        work: list[_Work] = []
        for event in events:
            if isinstance(event, Question):
                self._submit(event, turns)
            elif isinstance(event, _Work):
                work.append(event)
            elif isinstance(event, _Lost):
                turns.append(core.lost(self.peers.voter_of(event.peer), time.monotonic_ns()))
            else:
                counters.received += 1
                sender, data = event
                try:
                    message = decode(data)
                except Malformed:
                    counters.garbage += 1
                    continue
                turns.append(core.handle(self.peers.voter_of(sender), message, time.monotonic_ns()))
        if core.next_wake <= time.monotonic_ns():
            turns.append(core.wake(time.monotonic_ns()))
        counters.core_ns += time.monotonic_ns() - began_ns
        self._carry_out(turns)
        if core.committee.epoch != self._epoch or time.monotonic_ns() - self._tended_ns > TEND_NS:
            self._carry_out(self._tended())
        for piece in work:
            if piece.future.set_running_or_notify_cancel():
                try:
                    piece.future.set_result(piece.work())
                except Exception as error:  # a question that cannot be answered is its asker's trouble
                    piece.future.set_exception(error)
        counters.turns += 1

    def _carry_out(self, turns: list[Turn]) -> None:
        """Disk, then whoever waits, then network."""
        self._write([record for turn in turns for record in turn.records])
        for decision in (decision for turn in turns for decision in turn.decisions):
            self.counters.decisions += len(decision.block.requests)
            self._enter(decision.block)
            self._announce(decision.block)
        began_ns = time.monotonic_ns()
        self._speak([pair for turn in turns for pair in turn.messages])
        self.counters.send_ns += time.monotonic_ns() - began_ns
        for proof in (proof for turn in turns for proof in turn.proofs):
            self._accuse(proof)
        if self._lost and self._core.whole:
            self._seat.lost.unlink()
            self._lost = False
        elif self._lost and self._core.recovered != self._recovered:
            self._recovered = self._core.recovered
            self._seat.note_loss(self._recovered)

    def _write(self, records: list[Record]) -> None:
        """Have records on the disk."""
        counters = self.counters
        began_ns = time.monotonic_ns()
        self._log.append(records)
        took_ns = time.monotonic_ns() - began_ns
        counters.sync_ns += took_ns
        counters.longest_sync_ns = max(counters.longest_sync_ns, took_ns)

    def _speak(self, messages: list[tuple[int | None, Any]]) -> None:
        """One letter to each peer; by Ray each takes its time, so that who leads soonest is told first."""
        letters: dict[int, list[bytes]] = {}
        others = self.peers.soonest_first(self._core.view)
        for voter, message in messages:
            peers = others if voter is None else self.peers.seats_of(voter)
            if not peers:
                continue  # an answer to a stranger: a supply takes long to write, and nobody is there to read it
            data = encode(message)
            for peer in peers:
                letters.setdefault(peer, []).append(data)
        alike: dict[tuple[bytes, ...], list[int]] = {}
        for peer, letter in letters.items():
            alike.setdefault(tuple(letter), []).append(peer)
        for same, peers in alike.items():
            self.counters.letters += len(peers)
            self.counters.sent += len(peers) * len(same)
            self.counters.unsent += self._send(peers, list(same))

    # Requests.

    def _verified(self, public: bytes, message: bytes, signature: bytes) -> bool:
        self.counters.ballots_verified += 1
        return crypto.verify(public, message, signature)

    def _submit(self, asked: Question, turns: list[Turn]) -> None:
        waiting: list[tuple[int, bytes]] = []
        for place, body in enumerate(asked.bodies):
            self.counters.requests += 1
            try:
                request, identity = self._rules.read(body)
            except (Refused, Malformed) as error:
                self._refuse(asked, place, error)
                continue
            decided = self._decided(identity)
            fault = None if decided.evidence else self._rules.fault(body)
            ahead = not isinstance(request, Quarantine) and request.epoch > self._core.committee.epoch
            if decided.evidence:
                asked.answer(place, decided)
            elif isinstance(fault, StaleEpoch) and ahead:
                asked.answer(place, Answer())  # this replica is behind, and cannot say
            elif fault is not None:
                self._refuse(asked, place, fault)
            else:
                waiting.append((place, identity))
        room = self._waiting.count + len(waiting) <= MOST_WAITERS
        bodies = [asked.bodies[place] for place, _ in waiting]
        turn = self._core.submit(bodies, time.monotonic_ns()) if room else None
        if turn is None:
            busy = Overloaded(f"{self._core.pending} requests wait to be decided", "Try again shortly")
            for place, _ in waiting:
                self._refuse(asked, place, busy)
            return
        turns.append(turn)
        for place, identity in waiting:
            self._waiting.add(identity, asked, place)

    def _refuse(self, asked: Question, place: int, refusal: SwarmError) -> None:
        self.counters.refusals += 1
        self._note("refused", str(refusal))
        asked.answer(place, Answer(refusal=refusal))

    def _decided(self, identity: bytes) -> Answer:
        height = self._core.chain.decided(identity)
        return Answer() if height is None else Answer(self._evidence_of(height))

    def _evidence_of(self, height: int) -> bytes:
        """What proves a block: the same object for all its requests, so that an answer carries it once."""
        if height not in self._evidence:
            if len(self._evidence) >= MOST_KEPT:
                self._evidence.clear()
            self._evidence[height] = decisions.evidence_of(self._core.chain, height)
        return self._evidence[height]

    def _enter(self, block: Block) -> None:
        """Take note of who was quarantined in a block."""
        for request in block.requests:
            asked, _ = self._rules.read(request)
            if isinstance(asked, Quarantine):
                self._keep(asked.proof)
                self._note("quarantined", f"voters {sorted(asked.quarantined)} by agreement at height {block.height}")

    def _announce(self, block: Block) -> None:
        now_ns = time.monotonic_ns()
        for identity in map(self._rules.subject, block.requests):
            self._waiting.decided(identity, now_ns, partial(self._decided, identity))

    def _tended(self) -> list[Turn]:
        """Now and then, and in every new epoch: forget who waits no more, and press the accusations that are open."""
        now_ns = self._tended_ns = time.monotonic_ns()
        if self._core.committee.epoch != self._epoch:
            self._epoch = self._core.committee.epoch
            self._waiting.refuse_all(StaleEpoch("the committee changed before this was decided", "Ask for new ballots"))
        self._waiting.forget(now_ns)
        turns: list[Turn] = []
        for proof in self._proofs.values():
            try:
                body = ballots.encode(rules.quarantine(proof, self._core.chain.committees))
            except BadEvidence:
                continue  # it is done, or cannot be
            turn = self._core.submit([body], now_ns)
            if turn is not None:
                turns.append(turn)
        return turns

    def _accuse(self, proof: Proof) -> None:
        if self._keep(proof):
            self._note("accused", f"voter {proof.culprit} of epoch {proof.epoch}: {type(proof).__name__}")
            self._tended_ns = 0

    def _keep(self, proof: Proof) -> bool:
        """Keep a proof, unless there is one against the same key; whether it is kept.

        There is room for all who vote: where there seems to be none, one against who votes no more goes.
        """
        committees = self._core.chain.committees
        culprit = rules.culprit_key(proof, committees)
        if culprit in self._proofs:
            return False
        if len(self._proofs) >= MOST_KEPT:
            gone = next((key for key in self._proofs if key not in committees[-1].keys), None)
            if gone is None:
                return False
            del self._proofs[gone]
        self._proofs[culprit] = proof
        return True

    def _note(self, what: str, words: str) -> None:
        self._noted.append({"what": what, "words": words, "utc_ns": time.time_ns()})

    def _put(self, event: Question | _Lost | _Work) -> SwarmError | None:
        with self._news:
            if self.failure or self._closing:
                return SwarmError(f"this replica {self.failure or 'has been closed'}", "Ask another one")
            if len(self._inbox) >= self._settings.inbox:
                self.counters.dropped += 1
                return Overloaded("the replica's inbox is full", "Try again shortly")
            self._inbox.append(event)
        self._wake()
        return None

    def _wake(self) -> None:
        if self._ears is not None:
            self._ears.wake()
        else:
            with self._news:
                self._news.notify()

    def _by_owner(self, work: Callable[[], Any]) -> Any:
        piece = _Work(work, Future())
        refusal = self._put(piece)
        if refusal is not None:
            raise refusal
        try:
            return piece.future.result(timeout=self._settings.deadline_s)
        except FutureTimeout:
            raise Overloaded("the replica is busy", "Try again shortly") from None

    def _release(self) -> None:
        """Let nobody wait for a replica that has ended."""
        with self._news:
            events = list(self._inbox)
            self._inbox.clear()
            self._letters.clear()
        refusal = SwarmError(f"this replica {self.failure or 'has been closed'}", "Ask another one")
        self._waiting.abandon(refusal)
        for event in events:
            if not isinstance(event, _Lost) and not event.future.done():
                event.future.set_exception(refusal)
