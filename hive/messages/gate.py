"""What is said to the pre-trade gate and by it beside orders and verdicts: instructions, and its status."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from cluster.errors import InvalidInput
from hive.messages.codec import message


class Unwarranted(InvalidInput):
    """Somebody wants the gate to permit more, and does not say who they are or why."""


class Unmandated(Unwarranted):
    """Somebody wants a gate that has a committee to permit more, and shows no decision that says so."""


class Action(StrEnum):
    """What a person or an officer may tell the gate."""

    KILL = "kill"
    RELEASE_KILL = "release_kill"
    MODE = "mode"
    HALT = "halt"
    RESUME = "resume"
    RESTRICT = "restrict"
    PERMIT = "permit"
    DISABLE = "disable"
    ENABLE = "enable"
    LIMITS = "limits"
    RECONCILE = "reconcile"


@message
class Warrant:
    """Who stands for an instruction, and why. It is journalled as given; nobody proves here who they are.

    What permits more than before needs both, which :meth:`loosen` asks for in one place, and of a gate that has a
    committee its decision too, which proves itself: :mod:`actors.trading.gate.mandate`.
    """

    operator: str
    reason: str
    decision: bytes = b""
    """Id of the committee's decision."""
    evidence: bytes = b""
    """What proves it."""

    def loosen(self) -> None:
        """Pass if this suffices to permit more.

        Raises
        ------
        Unwarranted
            The operator or the reason is missing.
        """
        if not self.operator.strip() or not self.reason.strip():
            raise Unwarranted("whoever permits more must say who they are and why", "Give an operator and a reason")


@message
class Instruction:
    """One instruction; ``body`` is what its action needs: a name, a mode, limits, positions."""

    action: Action
    body: dict[str, Any]
    by: Warrant


@message
class GateFacts:
    """What must be known to ask the gate in numbers."""

    accounts: tuple[str, ...]
    symbols: tuple[str, ...]
    patience_s: float
    tag: int
    """The accounts and symbols in one word, which questions carry: a place never stands for another name."""
    directory: str
    """Where the gate keeps its journal and its kill switch."""
    identity: str
    """Of the gate through all its lives, as its journal knows it: what a committee decides is for one gate."""


@message
class GateStatus:
    """The gate in one look."""

    mode: str
    """As applied: SAFE_MODE at least while nobody has reconciled after an end without order."""
    unreconciled: bool
    killed: bool
    kills: int
    """Times that it was killed; a release must name it."""
    halted: tuple[str, ...]
    restricted: tuple[str, ...]
    disabled: tuple[str, ...]
    limits: dict[str, float]
    changed_limits: tuple[str, ...]
    """Those that differ from the settings, by instruction."""
    accounts: dict[str, dict[str, Any]]
    """Cash, positions and open reservations by account."""
    counters: dict[str, int]
    stale: tuple[str, ...]
    """Symbols whose last price is missing or too old: orders in them are rejected."""
    durable: int
    """Newest sequence number on disk."""
    longest_ns: int
    """Greatest age that a record had when it became durable: the window of what a crash can lose, as measured."""
    most_lost: int
    """Records that may be published and not yet durable: what a crash can lose at most."""
    journal_error: str
    snapshot_id: str
    committee: str
    """Chain of the committee that must decide what permits more; empty where there is none."""
    epoch: int
    """Newest of that committee's epochs that was proved to the gate: it obeys no decision that knows nothing of it."""

    @property
    def remarks(self) -> tuple[str, ...]:
        """What keeps orders from passing, and what to do about it."""
        found = []
        if self.killed:
            found.append(f"killed {self.kills} times: `swarm gate release --kills {self.kills} --reason ...` opens it")
        if self.unreconciled:
            found.append(
                "a gate ended without order, and verdicts may be lost: reductions only until `swarm gate reconcile`"
            )
        if self.stale:
            found.append(
                f"{len(self.stale)} symbols have no fresh price, and orders in them are rejected: feed prices with "
                "`swarm gate tick`, or with `tick` of a GateClient"
            )
        if self.journal_error:
            found.append(f"the journal does not reach the disk: {self.journal_error}")
        return tuple(found)
