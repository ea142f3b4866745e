"""Decisions that prove themselves: whoever has the first committee's public keys can check them, off-line.

A decision of a later epoch carries the ends of all epochs before it: each is signed by 2f+1 of that epoch's voters and
names the next epoch's committee.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.errors import InvalidInput
from consensus import ballots
from consensus.ballots import Body, Estimated, Moved, Quarantine
from consensus.errors import BadCertificate, Refused
from consensus.motions import Direction
from consensus.rules import Agreed, Outcome, Rules, agreed, outcome
from consensus.simplex import crypto
from consensus.simplex.chain import Chain
from consensus.simplex.crypto import Checker
from consensus.simplex.types import (
    Block,
    Committee,
    Finality,
    Malformed,
    finality_fields,
    finality_of,
    packed,
    unpacked,
)

FORMAT: Final = "riskswarm/decision/1"
COMMITTEE_FORMAT: Final = "riskswarm/committee/1"
MOST_EPOCHS: Final = 1024
MOST_PROOF_BYTES: Final = 16 * 2**20


@dataclass(frozen=True, slots=True)
class Decision:
    """Something that is decided, with its certificate. Only :func:`proved` makes one."""

    asked: Body
    outcome: Outcome
    height: int
    """Of its block in the chain."""
    epoch: int
    committee: Committee
    """Of that epoch."""
    evidence: bytes
    """What proves it, as :func:`proved` reads it."""

    @property
    def id(self) -> bytes:
        """What it is known by."""
        return ballots.identity(self.asked)

    @property
    def signers(self) -> tuple[int, ...]:
        """Voters who signed that it is final."""
        return tuple(voter for voter, _ in self._finality.certificate.signatures)

    @property
    def block(self) -> bytes:
        """Digest of the block that it stands in, and with it of everything that was decided before."""
        return next(block.digest for block in self._finality.blocks if block.height == self.height)

    @property
    def _finality(self) -> Finality:
        return finality_of(unpacked(self.evidence)[1])

    @property
    def number(self) -> Agreed | None:
        """The number that was agreed on, if one was."""
        return agreed(self.asked, self.committee) if isinstance(self.asked, Estimated) else None

    def holds_at(self, now_utc_ns: int) -> bool:
        """Whether it may be acted on now: what loosens must be shown before its motion's deadline."""
        if isinstance(self.asked, Quarantine) or self.asked.motion.direction is not Direction.INCREASE:
            return True
        return now_utc_ns < self.asked.motion.expires_utc_ns

    def summary(self) -> dict[str, Any]:
        """What a person wants to read of it."""
        facts: dict[str, Any] = {"id": self.id.hex(), "outcome": self.outcome.value, "height": self.height}
        facts |= {"epoch": self.epoch, "block": self.block.hex(), "certified_by": list(self.signers)}
        if isinstance(self.asked, Quarantine):
            return facts | {"kind": "quarantine", "quarantined": sorted(self.asked.quarantined)}
        motion = self.asked.motion
        facts |= {"kind": motion.kind, "direction": motion.direction.value, "proposer": motion.proposer}
        facts |= {"evidence": list(motion.evidence), "expires_utc_ns": motion.expires_utc_ns}
        if isinstance(self.asked, Moved):
            facts["ballots"] = [
                {"voter": given.voter, "choice": given.choice.name.lower(), "reason": given.reason}
                for given in self.asked.ballots
            ]
        if (number := self.number) is not None:
            facts |= {"median": number.median, "trimmed_mean": number.trimmed_mean, "outliers": list(number.outliers)}
        return facts


def evidence_of(chain: Chain, height: int) -> bytes:
    """What proves the block of a height of a chain: the ends of the epochs before, and its own finality."""
    ends = [chain.proof(committee.height) for committee in chain.committees[1:] if committee.height < height]
    return packed([[finality_fields(end) for end in ends], finality_fields(chain.proof(height))])


def end_of(chain: Chain, committee: Committee) -> bytes:
    """What proves that the epoch before ``committee``'s ended with it, for whoever knows the epoch before."""
    return packed(finality_fields(chain.proof(committee.height)))


def following(
    known: Sequence[Committee], ends: Sequence[bytes], check: crypto.Verify = crypto.verify
) -> list[Committee]:
    """The committees of every epoch, where those of the first ones are known and the ends of later ones are given.

    Raises
    ------
    BadCertificate
        One of them ends nothing.
    """
    found = list(known)
    try:
        for end in ends[:MOST_EPOCHS]:
            if len(end) > MOST_PROOF_BYTES:
                raise BadCertificate(f"a proof of {len(end)} bytes", "Give what the committee answered")
            before = len(found)
            _walk(finality_of(unpacked(end)), found, check)
            if len(found) == before:
                raise BadCertificate("the end of an epoch ends none", "Give what the committee answered")
    except (Malformed, Refused) as error:
        raise BadCertificate(f"the proof does not hold ({error.problem})", "Ask another replica") from error
    return found


def proved(first: Committee, evidence: bytes, identity: bytes, check: crypto.Verify = crypto.verify) -> Decision:
    """The decision about ``identity`` that evidence proves; raises as :func:`certified`."""
    return certified(first, evidence, check).about(identity)


@dataclass(frozen=True, slots=True)
class Certified:
    """What a quorum has signed to be final, maybe many decisions. Only :func:`certified` makes one."""

    evidence: bytes
    known: tuple[Committee, ...]
    """Of every epoch up to the blocks', and the next where they end it."""
    committee: Committee
    """Of the blocks' epoch."""
    blocks: tuple[Block, ...]
    """Lowest first, up to the end of their epoch."""
    asked: Mapping[bytes, tuple[Body, int]]
    """What is decided, and at which height, by id."""
    check: crypto.Verify

    @property
    def ends(self) -> tuple[bytes, ...]:
        """Of the epochs before the last that is known, as :func:`following` reads them."""
        ends, own = unpacked(self.evidence)
        return tuple(packed(end) for end in [*ends, own][: len(self.known) - 1])

    def agrees(self, known: Sequence[Committee]) -> bool:
        """Whether these blocks can be of the chain whose epochs are known, as far as that shows.

        The epochs must be the same, and where theirs begins and ends is fixed: by the block that ended the one before,
        and by their own epoch's last block where that is known. What a quorum of keys that have left signs of the
        heights between cannot be told from what was decided there.
        """
        common = min(len(known), len(self.known))
        if self.known[:common] != tuple(known[:common]):
            return False
        begun, ended = self.committee, next(iter(known[self.committee.epoch + 1 :]), None)
        first, last = self.blocks[0], self.blocks[-1]
        if first.height <= begun.height or (first.height == begun.height + 1 and first.parent != begun.anchor):
            return False
        return ended is None or last.height < ended.height or (last.height, last.digest) == (ended.height, ended.anchor)

    def about(self, identity: bytes) -> Decision:
        """The decision about a motion.

        Raises
        ------
        BadCertificate
            There is none in these blocks.
        """
        if identity not in self.asked:
            raise BadCertificate(f"the certified blocks say nothing of {identity.hex()[:16]}", "Give its own proof")
        try:
            return self._decision(*self.asked[identity])
        except (Malformed, Refused) as error:
            raise BadCertificate(f"the proof does not hold ({error.problem})", "Ask another replica") from error

    def _decision(self, asked: Body, height: int) -> Decision:
        if isinstance(asked, Quarantine):
            decided = Outcome.QUARANTINED
            before = [one for one in self.known if one.epoch <= self.committee.epoch]
            fault = Rules(lambda: before, self.check).fault(ballots.encode(asked))
            if fault is not None:
                raise fault
        else:
            decided = outcome(asked, self.committee, self.check)
        return Decision(asked, decided, height, self.committee.epoch, self.committee, self.evidence)


def certified(first: Committee, evidence: bytes, check: crypto.Verify = crypto.verify) -> Certified:
    """The blocks that evidence proves to be final.

    Parameters
    ----------
    first : Committee
        Of epoch 0, from a source that is trusted.

    Raises
    ------
    BadCertificate
        It proves none.
    """
    if len(evidence) > MOST_PROOF_BYTES:
        raise BadCertificate(f"a proof of {len(evidence)} bytes", "Give what the committee answered")
    try:
        fields = unpacked(evidence)
        if not isinstance(fields, list) or len(fields) != 2 or not isinstance(fields[0], list):
            raise Malformed("fields that prove nothing", "Give what the committee answered")
        ends, finality = [finality_of(end) for end in fields[0][:MOST_EPOCHS]], finality_of(fields[1])
        known = [first]
        for end in ends:
            _walk(end, known, check)
        if known[-1].epoch != len(ends):
            raise BadCertificate("the end of an epoch ends none", "Give what the committee answered")
        committee = known[-1]
        said: dict[bytes, tuple[Body, int]] = {}
        blocks = tuple(_walk(finality, known, check))
        for block in blocks:
            for request in block.requests:
                asked = ballots.decode(request)
                said.setdefault(ballots.identity(asked), (asked, block.height))
    except (Malformed, Refused) as error:
        raise BadCertificate(f"the proof does not hold ({error.problem})", "Ask another replica") from error
    return Certified(evidence, tuple(known), committee, blocks, said, check)


def committee_text(committee: Committee, salt: bytes) -> str:
    """The public keys of a first committee, for a file."""
    facts = {"format": COMMITTEE_FORMAT, "chain": committee.chain.hex(), "salt": salt.hex()}
    return json.dumps({**facts, "keys": [key.hex() for key in committee.keys]}, indent=2) + "\n"


def read_committee(path: Path) -> Committee:
    """The first committee of a file.

    Raises
    ------
    InvalidInput
        There is none, or its identity is not that of its keys.
    """
    return committee_of(_text(path), str(path))


def committee_of(text: str, where: str) -> Committee:
    """The first committee of a file's text; raises as :func:`read_committee`."""
    try:
        fields = json.loads(text)
        keys = tuple(bytes.fromhex(key) for key in fields["keys"])
        committee = Committee.founded(keys, bytes.fromhex(fields["salt"]))
        sound = fields["format"] == COMMITTEE_FORMAT and committee.chain.hex() == fields["chain"]
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{where} holds no committee", "Give the file that founding it wrote") from error
    if not sound:
        raise InvalidInput(f"the committee in {where} is not that of its keys", "Give the file that founding it wrote")
    return committee


def decision_text(decision: Decision) -> str:
    """A decision for a file; what a person reads in it is said again by what is signed."""
    facts = {"format": FORMAT, "chain": decision.committee.chain.hex(), "says": decision.summary()}
    return json.dumps({**facts, "proof": decision.evidence.hex()}, indent=2) + "\n"


def read_decision(path: Path, first: Committee, known: Sequence[Committee] = ()) -> Decision:
    """The decision of a file, verified with nothing but the first committee's public keys.

    Parameters
    ----------
    known : sequence of Committee
        Of the epochs that were proved before, where any were.

    Raises
    ------
    BadCertificate
        It is none, it is of another committee, it says something that is not signed, or it contradicts what is known.
    """
    text = _text(path)
    try:
        fields = json.loads(text)
        if fields["format"] != FORMAT:
            raise ValueError(fields["format"])
        chain, identity = fields["chain"], bytes.fromhex(fields["says"]["id"])
        evidence = bytes.fromhex(fields["proof"])
    except (ValueError, KeyError, TypeError) as error:
        raise BadCertificate(f"{path} holds no decision", "Give what `swarm consensus log --export` wrote") from error
    if chain != first.chain.hex():
        raise BadCertificate(
            f"{path} is of committee {str(chain)[:16]}, and the keys given are of {first.chain.hex()[:16]}",
            "Give that committee's keys",
        )
    blocks = certified(first, evidence)
    if not blocks.agrees(known):
        raise BadCertificate(
            f"{path} contradicts how its committee's epochs began and ended",
            "Somebody has the keys of voters who have left: believe nothing",
        )
    decision = blocks.about(identity)
    known_of_it = json.loads(json.dumps(decision.summary()))
    if not fields["says"].items() <= known_of_it.items():  # an older version said less, and nothing else
        raise BadCertificate(f"{path} says something that is not signed", "Somebody has changed it: believe nothing")
    return decision


def _walk(finality: Finality, known: list[Committee], check: crypto.Verify) -> Sequence[Block]:
    """Blocks that a finality makes final in the last epoch that is known; an end of that epoch makes the next known."""
    committee = known[-1]
    if not finality.holds_together or finality.blocks[-1].epoch != committee.epoch:
        raise BadCertificate("the blocks are no chain, or of another epoch", "Give what the committee answered")
    if not Checker(committee, check).certificate(finality.certificate):
        raise BadCertificate("the certificate is not signed by a quorum", "Believe nothing of it")
    rules = Rules(lambda: known, check)
    for number, block in enumerate(finality.blocks):
        change = next((found for found in map(rules.change, block.requests) if found is not None), None)
        if change is not None:
            known.append(committee.after(block, change))
            return finality.blocks[: number + 1]
    return finality.blocks


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read ({error})", "Check the path") from error
