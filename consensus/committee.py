"""The committee as its clients see it: propose, vote, finalize, read the log. Works in any process that joined Ray.

Nothing a replica says is believed: a decision is verified here against the first committee's public keys, so one honest
answer is enough, and a lie is only a delay. What cannot prove itself, such as a refusal, counts when f+1 replicas say
the same. The committee changes while it works: who votes now is proved by the ends of the epochs before, and voters are
found by their names. A name is no proof, and who has left may live on: of the seats that are found, as many as exceed
the voters may be anybody's, and so many more must say the same. That needs no word on who sits where, since refusals
are not signed; where too few are left to say so, the motion's deadline passes.

The keys of those who have left may be in anybody's hands. They prove nothing of the epochs that this client knows to be
over: neither another end of them, nor blocks behind their end, nor that they decided what was moved later. What was
decided in them before their end is history, and whether it was is not proved by their signatures alone any more:
:meth:`CommitteeClient.decision` and :meth:`CommitteeClient.log` may show what such keys have signed since. No gate that
knows the later epochs obeys it.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any

from cluster.errors import InvalidInput, Overloaded, SwarmError
from consensus import ballots, decisions, epochs
from consensus.asking import Reach
from consensus.ballots import Ballot, Choice, Estimate, Estimated, Moved, Place
from consensus.decisions import Decision
from consensus.epochs import Known
from consensus.errors import BadCertificate, NoQuorum, Refused, StaleEpoch, Undecided
from consensus.motions import NUMBER, Motion, in_time, motion_fields, new_motion, question
from consensus.rules import needed
from consensus.seats import replica_name
from consensus.simplex import crypto, proofs
from consensus.simplex.crypto import Checker
from consensus.simplex.proofs import Proof
from consensus.simplex.types import Committee, Malformed, packed

CALL_S = 5.0
RETRY_S = 0.05
LOG_PAGE = 256
MOST_CERTIFIED = 64
MOST_CHECKED = 4096  # signatures that are remembered as genuine, or not


class CommitteeClient:
    """A committee.

    Parameters
    ----------
    first : Committee
        Its first epoch, from a source that is trusted: the file that founding it wrote.
    deadline_s : float
        How long a motion may take where nothing else is said.
    folder : Path, optional
        Of that file: later epochs that were proved to anybody are kept there, see :mod:`consensus.epochs`.

    Raises
    ------
    InvalidInput
        What the folder knows of later epochs does not hold.
    """

    def __init__(
        self,
        first: Committee,
        namespace: str,
        *,
        deadline_s: float = 5.0,
        proposer: str = "",
        folder: Path | None = None,
    ) -> None:
        self.first, self.namespace, self._deadline_s, self._proposer = first, namespace, deadline_s, proposer
        self.known = Known((first,)) if folder is None else epochs.read(folder, first)
        """The epochs that were proved to this client."""
        self.unkept = ""
        """Why the folder does not know of them all; empty where it does, or where there is none."""
        self._folder = folder
        self._kept = self.known.present.epoch
        self._certified: dict[bytes, decisions.Certified] = {}
        self._reach = Reach(namespace, lambda: self.present)
        self._check = lru_cache(MOST_CHECKED)(crypto.verify)
        """A ballot is seen as it comes, and again in the decision that it carried."""

    @property
    def present(self) -> Committee:
        """Of the last epoch that was proved to this client."""
        return self.known.present

    def refresh(self, within_s: float = CALL_S) -> Committee:
        """The committee of the last epoch that any replica can prove; its voters are looked for anew."""
        self._reach.forget()
        offered: list[Known] = []
        count = self.present.quorum + self._reach.strange()  # strangers may be the first to answer
        for ends in self._reach.all("ends", self.present.epoch, count=count, within_s=within_s).values():
            with contextlib.suppress(BadCertificate):  # a replica that lies; others do not
                offered.append(self.known.followed(ends))
        self._learn(epochs.chosen(self.known, offered))
        return self.present

    def propose(
        self, kind: str, payload: bytes = b"", *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> Decision:
        """Move something and have it decided, once.

        Returns
        -------
        Decision
            Approved or rejected, with its certificate.

        Raises
        ------
        Refused
            It cannot be decided, and why.
        Undecided
            No decision by the deadline; one may still come, and loosens nothing then.
        NoQuorum
            Too few replicas answer.
        """
        return self.propose_all([(kind, payload)], evidence=evidence, deadline_s=deadline_s)[0]

    def propose_all(
        self, moved: Sequence[tuple[str, bytes]], *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> list[Decision]:
        """As :meth:`propose`, for many (kind, payload) at once: they share calls, signatures of slots and syncs."""
        motions = [self.motion(kind, payload, evidence=evidence, deadline_s=deadline_s) for kind, payload in moved]
        return self._carried(motions)

    def motion(
        self, kind: str, payload: bytes = b"", *, evidence: Sequence[str] = (), deadline_s: float | None = None
    ) -> Motion:
        """A motion that nobody has voted on.

        Raises
        ------
        Refused
            Its kind is unknown, it is too large, or its deadline has passed.
        """
        patience_s = self._deadline_s if deadline_s is None else deadline_s
        now_ns = time.time_ns()
        motion = new_motion(
            kind,
            payload,
            expires_utc_ns=now_ns + int(patience_s * 1e9),
            evidence=evidence,
            proposer=self._proposer,
        )
        in_time(motion, now_ns)
        return motion

    def vote(self, motion: Motion) -> tuple[int, tuple[Ballot, ...]]:
        """The epoch, and the electors' ballots on a motion: as many as may decide it, as quickly as they come.

        Raises
        ------
        NoQuorum
            Too few answer.
        """
        epoch, given = self._votes([motion])
        return epoch, given[0]

    def finalize(self, motion: Motion, epoch: int, given: Sequence[Ballot]) -> Decision:
        """Have a motion decided by these ballots, in their epoch or later; raises as :meth:`propose`."""
        body = ballots.encode(Moved(epoch, motion, tuple(given)))
        return self._finalised([body], [motion.id], motion.expires_utc_ns, epoch)[0]

    def agree(self, motion: Motion, epoch: int, estimates: Sequence[Estimate]) -> Decision:
        """Have the median and trimmed mean of signed, independent estimates agreed on; raises as :meth:`propose`."""
        body = ballots.encode(Estimated(epoch, motion, tuple(estimates)))
        return self._finalised([body], [motion.id], motion.expires_utc_ns, epoch)[0]

    def estimate(self, text: str, tolerance: float, *, deadline_s: float | None = None) -> Decision:
        """Ask the voters for a number, each its own, and have the median and trimmed mean of what they sign agreed on.

        Parameters
        ----------
        text : str
            A question that voters can answer: they say themselves what that is.
        tolerance : float
            How far from the median an estimate may be and be no outlier.

        Raises
        ------
        Refused
            More voters have no number than may be faulty, and why the first has none.
        Undecided, NoQuorum
            As :meth:`propose`.
        """
        asked = self.motion(NUMBER, question(text, tolerance), deadline_s=deadline_s)
        since: int | None = None  # the first try may have had it agreed on
        while True:
            epoch, given = self._estimates(asked)
            since = epoch if since is None else since
            body = ballots.encode(Estimated(epoch, asked, tuple(given)))
            try:
                return self._finalised([body], [asked.id], asked.expires_utc_ns, since)[0]
            except StaleEpoch:  # the committee changed in between; the same question, to its new members
                if time.time_ns() >= asked.expires_utc_ns:
                    raise
                self.refresh(_left_s(asked.expires_utc_ns))

    def decision(self, identity: bytes) -> Decision | None:
        """The decision about a motion, where any replica can prove one. One of an epoch that is over is history."""
        for answers in self._reach.all("decided", [identity], within_s=CALL_S).values():
            for answer in answers if isinstance(answers, list) else ():
                with contextlib.suppress(BadCertificate):
                    return self._proved(getattr(answer, "evidence", b""), identity)
        return None

    def log(self, above: int = 0, most: int = LOG_PAGE) -> list[Decision]:
        """Decisions above a height, lowest first, each verified; from the replica that can prove most.

        Those of epochs that are over are history: this module says what their signatures prove.
        """
        best: dict[bytes, Decision] = {}
        for entries in self._reach.all("log", above, most, within_s=CALL_S).values():
            try:
                proved = [self._proved(evidence, identity) for identity, _, evidence in entries]
            except (BadCertificate, TypeError, ValueError):
                continue  # a replica that lies; there are others
            best = max(best, {entry.id: entry for entry in proved if entry.height > above}, key=len)
        return sorted(best.values(), key=lambda entry: entry.height)

    def evidence(self) -> list[Proof]:
        """Proofs of misconduct that replicas hold, each once, and checked: what proves nothing is left out."""
        self.refresh()
        checkers = [Checker(committee) for committee in self.known.committees]
        found: list[Proof] = []
        told = self._reach.all("evidence", within_s=CALL_S).values()
        held = [data for said in told if isinstance(said, list) for data in said]
        for data in sorted({data for data in held if isinstance(data, bytes)}):
            with contextlib.suppress(Malformed):
                proof = proofs.decode(data)
                if proof.epoch < len(checkers) and proof.holds(checkers[proof.epoch]):
                    found.append(proof)
        return found

    def status(self) -> list[dict[str, Any]]:
        """What each seat says of itself, with its voter's number in the present epoch, or None for one that observes.

        Those that do not answer say nothing but their name, where it is known.
        """
        voters = {key.hex(): voter for voter, key in enumerate(self.refresh().keys)}
        publics = {seat: key.hex() for seat, key in enumerate(self.first.keys)}
        told = self._reach.all("status", within_s=CALL_S)
        said = {seat: one for seat, one in told.items() if isinstance(one, dict)}
        publics = {seat: str(one.get("public", "")) for seat, one in said.items()} | publics
        founding = {seat for seat in range(len(self.first.keys)) if publics[seat] in voters}
        return [
            said.get(seat, {}) | {"name": replica_name(seat), "voter": voters.get(publics.get(seat, ""))}
            for seat in sorted(founding | self._reach.seats())
        ]

    def _carried(self, motions: list[Motion]) -> list[Decision]:
        expires_ns = min(motion.expires_utc_ns for motion in motions)
        since: int | None = None  # the first try may have had some of them decided
        while True:
            epoch, given = self._votes(motions)
            since = epoch if since is None else since
            bodies = [ballots.encode(Moved(epoch, motion, own)) for motion, own in zip(motions, given, strict=True)]
            try:
                return self._finalised(bodies, [motion.id for motion in motions], expires_ns, since)
            except StaleEpoch:  # the committee changed in between; the same motions, with its new members' ballots
                if time.time_ns() >= expires_ns:
                    raise
                self.refresh(_left_s(expires_ns))

    def _votes(self, motions: list[Motion]) -> tuple[int, list[tuple[Ballot, ...]]]:
        """The epoch, and ballots of as many as the motions need; of more, while those that came decide nothing."""
        give_up_ns = min(motion.expires_utc_ns for motion in motions)
        while True:
            try:
                found = self._polled(motions, give_up_ns)
            except NoQuorum:
                self._reach.forget()  # they may live, and live elsewhere, when they are asked again
                raise
            if found is not None:
                return found
            time.sleep(RETRY_S)

    def _polled(self, motions: list[Motion], give_up_ns: int) -> tuple[int, list[tuple[Ballot, ...]]] | None:
        """Ballots of one round; None where the committee changes, and the next round will know more."""
        questions = [packed(motion_fields(motion)) for motion in motions]
        by_epoch: dict[int, list[list[Any]]] = {}
        columns: list[list[Any]] = []
        epoch = self.present.epoch
        leaders: dict[int, tuple[Any, Any]] = {}
        least = max(needed(motion.direction, self.present) for motion in motions)
        doubted = self._reach.doubted()
        asking = max(least, self.present.faults + 1)  # one of them is honest, and says who leads
        for seat, answer in self._reach.hedged(
            "ballots", questions, asking=asking, first=self._reach.next_leader, until_ns=give_up_ns, many=len(motions)
        ):
            match answer:
                case tuple((int() as theirs, tuple((leads, follows)), list() as said)) if theirs >= 0:
                    leaders[seat] = leads, follows
                    if len(said) == len(motions) and theirs >= self.present.epoch:  # who is no voter gives none
                        by_epoch.setdefault(theirs, []).append(said)
                        self._reach.gave_ballots(seat, leaders)
            epoch, columns = max(by_epoch.items(), key=lambda item: len(item[1]), default=(epoch, []))
            if epoch > self.present.epoch:
                if len(columns) > self.present.faults and self.refresh(_left_s(give_up_ns)).epoch >= epoch:
                    return None  # there are others to be asked
                continue
            committee = self.known.committees[epoch]
            least = max(needed(motion.direction, committee) for motion in motions)
            given = self._given(motions, columns, committee, doubted)
            if all(_settled(motion, own, committee) for motion, own in zip(motions, given, strict=True)):
                return epoch, given
        if len(columns) >= least and epoch <= self.present.epoch:
            return epoch, self._given(motions, columns, self.known.committees[epoch], doubted)
        if len(leaders) >= least and time.time_ns() < give_up_ns:
            self.refresh(_left_s(give_up_ns))
            return None  # they live, and are not all in the same epoch yet
        raise NoQuorum(
            f"{len(columns)} of {len(self.present.keys)} voters gave a ballot, and {least} are needed",
            "Run `swarm health`",
        )

    def _estimates(self, asked: Motion) -> tuple[int, list[Estimate]]:
        """The epoch, and a quorum's signed numbers, as quickly as they come; of their median two are honest."""
        words = packed(motion_fields(asked))
        while True:
            present, doubted = self.present, self._reach.doubted()
            given: dict[int, Estimate] = {}
            refusals: list[SwarmError] = []
            ahead = behind = 0
            for _, answer in self._reach.hedged("estimates", [words], asking=None, until_ns=asked.expires_utc_ns):
                match answer:
                    case (int() as theirs, [said]) if theirs == present.epoch:
                        if isinstance(said, SwarmError):
                            refusals.append(said)
                        elif (sound := self._sound_estimate(said, present, asked.id)) is not None:
                            given[sound.voter] = sound
                    case (int() as theirs, list()) if theirs != present.epoch:
                        ahead += theirs > present.epoch
                        behind += theirs < present.epoch
                if len(refusals) > doubted:
                    raise refusals[0]
                if len(given) >= present.quorum:
                    return present.epoch, [given[voter] for voter in sorted(given)]
                if ahead > present.faults:
                    break
            if ahead and self.refresh(_left_s(asked.expires_utc_ns)).epoch != present.epoch:
                continue
            if len(given) + ahead + behind < present.quorum or time.time_ns() >= asked.expires_utc_ns:
                self._reach.forget()  # they may live, and live elsewhere, when they are asked again
                raise NoQuorum(
                    f"{len(given)} of {len(present.keys)} voters gave a number, and {present.quorum} are needed",
                    str(refusals[0]) if refusals else "Run `swarm health`",
                )
            time.sleep(RETRY_S)  # they live, and are not all in the same epoch yet

    def _sound_estimate(self, said: Any, committee: Committee, motion_id: bytes) -> Estimate | None:
        """What a seat gave as its number, if its voter signed it; made anew, as :meth:`_sound` does."""
        try:
            made = Estimate(said.voter, said.value, said.signature)
            return made if ballots.estimated(made, committee, motion_id, self._check) else None
        except Exception:  # a faulty replica may give anything; the others' numbers count
            return None

    def _given(
        self, motions: Sequence[Motion], columns: Sequence[list[Any]], committee: Committee, doubted: int
    ) -> list[tuple[Ballot, ...]]:
        """Each motion's ballots that their voters have signed; raises what more refuse than may say what is not so."""
        given: list[tuple[Ballot, ...]] = []
        for place, motion in enumerate(motions):
            said = [column[place] for column in columns]
            refusals = [one for one in said if isinstance(one, (Refused, Malformed))]
            if len(refusals) > doubted:
                raise refusals[0]
            sound = (self._sound(one, committee, motion.id) for one in said)
            by_voter = {one.voter: one for one in sound if one is not None}
            given.append(tuple(by_voter[voter] for voter in sorted(by_voter)))
        return given

    def _sound(self, said: Any, committee: Committee, motion_id: bytes) -> Ballot | None:
        """What a seat gave as a ballot, if its voter signed it. It is made anew, since no field of it was checked."""
        try:
            place = None if said.place is None else Place(said.place.index, said.place.size, said.place.path)
            made = Ballot(said.voter, Choice(said.choice), said.reason, said.signature, place)
            return made if ballots.genuine(made, committee, motion_id, self._check) else None
        except Exception:  # a faulty replica may give anything; the others' ballots count
            return None

    def _finalised(
        self, bodies: list[bytes], identities: list[bytes], expires_utc_ns: int, since: int
    ) -> list[Decision]:
        """What becomes of requests that were made in the epoch ``since`` or later: no older one can have decided them,
        so that what is signed in its name was signed by keys that may have left it long ago."""
        found: dict[int, Decision] = {}
        answered = 0
        while (left_s := (expires_utc_ns - time.time_ns()) / 1e9) > 0:
            open_ = [place for place in range(len(bodies)) if place not in found]
            asked = [bodies[place] for place in open_]
            refusals: dict[tuple[int, str], list[SwarmError]] = {}
            doubted = self._reach.doubted()
            for _, answers in self._reach.hedged(
                "decide",
                asked,
                left_s,
                asking=None if self._reach.carrier is None else 1,
                first=self._reach.carrier,
                until_ns=expires_utc_ns,
                many=len(asked),
                times=self._reach.patience,
            ):
                if not isinstance(answers, list):
                    continue
                answered += bool(answers)
                for place, answer in zip(open_, answers, strict=False):
                    self._take(answer, place, identities[place], since, _left_s(expires_utc_ns), found, refusals)
                for same in refusals.values():
                    if len(same) > doubted:
                        raise same[0]
                if len(found) == len(bodies):
                    return [found[place] for place in range(len(bodies))]
            time.sleep(RETRY_S)
        if not answered:
            raise NoQuorum("no replica answered in time", "Run `swarm consensus status`")
        raise Undecided(
            f"{len(bodies) - len(found)} of {len(bodies)} motions were not decided by the deadline",
            "Look for them with `swarm consensus log`; what loosens is void now",
        )

    def _take(
        self,
        answer: Any,
        place: int,
        identity: bytes,
        since: int,
        within_s: float,
        found: dict[int, Decision],
        refusals: dict[tuple[int, str], list[SwarmError]],
    ) -> None:
        refusal = getattr(answer, "refusal", None)
        if isinstance(refusal, (InvalidInput, Overloaded)):
            refusals.setdefault((place, type(refusal).__name__), []).append(refusal)
        elif place not in found:
            with contextlib.suppress(BadCertificate):  # a replica that lies, or cannot say; others will
                found[place] = self._proved(getattr(answer, "evidence", b""), identity, since, within_s)

    def _proved(self, evidence: Any, identity: bytes, since: int = 0, within_s: float = CALL_S) -> Decision:
        """What evidence proves of a motion; the certificate of a block with many motions is verified once.

        Later epochs are not learnt from one replica before the others were asked for them.

        Raises
        ------
        BadCertificate
            It proves nothing, contradicts the epochs that are known, or is of an epoch before ``since``.
        """
        if not isinstance(evidence, bytes) or not evidence or not isinstance(identity, bytes):
            raise BadCertificate("there is no certificate", "Ask another replica")
        held = self._certified.get(evidence)
        if held is None:
            held = decisions.certified(self.first, evidence, self._check)
            if len(self._certified) >= MOST_CERTIFIED:
                self._certified.clear()
            self._certified[evidence] = held
        if len(held.known) > len(self.known.committees):
            with contextlib.suppress(NoQuorum):
                self.refresh(within_s)
        if not held.agrees(self.known.committees):  # with every use, since more may be known than when it was proved
            raise BadCertificate("the blocks contradict how their epochs began and ended", "Ask another replica")
        if held.committee.epoch < since:
            raise BadCertificate(
                f"it was signed in the name of epoch {held.committee.epoch}, and asked for in epoch {since}",
                "Ask another replica",
            )
        if len(held.known) > len(self.known.committees):
            self._learn(Known.of(held))
        return held.about(identity)

    def _learn(self, later: Known) -> None:
        """Know what continues that which is known, and keep it before anything is done that rests on it."""
        if len(later.committees) > len(self.known.committees):
            self.known = later
            self._reach.forget()
        if self._folder is None or self._kept == self.present.epoch:
            return
        try:
            held = epochs.keep(self._folder, self.known)
        except (InvalidInput, OSError) as error:  # who may not write there still decides; the next one tries again
            self.unkept = f"epoch {self.present.epoch} is not kept: {error}"
            return
        if len(held.committees) > len(self.known.committees):
            self.known = held
            self._reach.forget()
        self._kept, self.unkept = self.present.epoch, ""


def _left_s(until_utc_ns: int) -> float:
    """How long a call may take that serves something with this deadline."""
    return min(CALL_S, max(0.0, (until_utc_ns - time.time_ns()) / 1e9))


def _settled(motion: Motion, given: Sequence[Ballot], committee: Committee) -> bool:
    approvals = sum(one.choice is Choice.APPROVE for one in given)
    rejections = sum(one.choice is Choice.REJECT for one in given)
    return approvals >= needed(motion.direction, committee) or rejections > committee.faults
