"""What a committee must have decided before its gate permits more: motions about instructions, and their proof.

A motion's payload is the instruction itself, for one gate, in the one way it can be written, so that a certificate is
good for nothing else. Electors read it before they vote; the gate compares it with what it is told to do. Texts that
are no instruction may be moved as they always could: no gate obeys them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from actors.trading.gate.settings import LIMITS
from cluster.errors import InvalidRequest, SwarmError
from consensus import ballots, decisions, rules
from consensus.ballots import Choice, Moved
from consensus.decisions import Decision
from consensus.motions import Motion
from consensus.rules import Outcome
from consensus.simplex.types import Committee
from hive.messages.gate import Action, Unmandated, Warrant
from hive.messages.orders import Mode

TAG: Final = b"riskswarm/gate/1\n"
"""First bytes of a payload that is an instruction; JSON follows."""
MOVED_AS: Final[dict[Action, str]] = {
    Action.RELEASE_KILL: "release_kill",
    Action.MODE: "loosen_mode",
    Action.LIMITS: "raise_limit",
    Action.RESUME: "permit_trading",
    Action.PERMIT: "permit_trading",
    Action.ENABLE: "permit_trading",
    Action.RECONCILE: "reconcile_gate",
}
"""Kind of the motion about each instruction that can permit more."""
ONLY_INSTRUCTIONS: Final = ("permit_trading", "reconcile_gate")
"""Kinds that are about nothing but instructions to a gate."""
REMEDY: Final = "Use `swarm gate`, or `GateClient.propose` in Python: they have the committee decide it"
SHORT_ID: Final = 12


@dataclass(frozen=True)
class Trust:
    """A gate's knowledge of its committee."""

    first: Committee
    """Whose keys everything is verified against."""
    newest: Committee
    """Of the latest epoch that was proved, by a decision which was obeyed or by the ends of the epochs before. What
    knows nothing of it is out of date, or of voters who are no members any more and whose keys anybody may have."""


@dataclass(frozen=True)
class Shown:
    """What came with a warrant, proved or not; only :func:`examined` makes one."""

    decision: Decision | None
    known: tuple[Committee, ...] = ()
    """Of every epoch up to the decision's, and of the next where it ends one."""
    fault: Unmandated | None = None


def payload(gate: str, action: Action, body: Mapping[str, Any]) -> bytes:
    """What a motion about an instruction carries.

    Parameters
    ----------
    gate : str
        Identity of the gate, of its facts.

    Raises
    ------
    InvalidRequest
        The action never permits more, or the body is not what it needs.
    """
    facts = {"gate": gate, "action": Action(action).value, "body": _body(action, body)}
    return TAG + json.dumps(facts, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()


def instruction_of(data: bytes) -> tuple[str, Action, dict[str, Any]]:
    """Gate, action and body of such a payload.

    Raises
    ------
    InvalidRequest
        It is none, or written in another way.
    """
    try:
        facts = json.loads(data.removeprefix(TAG))
        gate, action, body = str(facts["gate"]), Action(facts["action"]), facts["body"]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise InvalidRequest("the payload is no instruction to a gate", "Give what `payload` makes") from error
    if payload(gate, action, body) != data:
        raise InvalidRequest("the instruction is not written as instructions are", "Give what `payload` makes")
    return gate, action, body


def judge(motion: Motion, now_utc_ns: int) -> tuple[Choice, str]:
    """How an elector votes: an instruction to a gate must be one, and of the kind that it is moved as."""
    choice, reason = rules.judge(motion, now_utc_ns)
    about_gate = motion.payload.startswith(TAG) or motion.kind in ONLY_INSTRUCTIONS
    if choice is not Choice.APPROVE or not about_gate:
        return choice, reason
    try:
        _, action, _ = instruction_of(motion.payload)
    except InvalidRequest as error:
        return Choice.REJECT, _short(error.problem)
    if MOVED_AS[action] != motion.kind:
        return Choice.REJECT, f"{action.value} is moved as {MOVED_AS[action]}"
    return Choice.APPROVE, f"{action.value} is well formed, in time"


def examined(first: Committee, by: Warrant) -> Shown:
    """Prove what came with a warrant, off-line. It takes milliseconds, and longer for a long proof: hold no lock."""
    if not by.evidence:
        return Shown(None)
    try:
        certified = decisions.certified(first, by.evidence)
        return Shown(certified.about(by.decision), certified.known)
    except SwarmError as error:
        fault = Unmandated(f"what was shown is no decision of the committee: {error.problem}", REMEDY)
        return Shown(None, fault=fault)


def required(
    trust: Trust, shown: Shown, gate: str, action: Action, body: Mapping[str, Any], now_utc_ns: int
) -> tuple[Decision, Trust]:
    """The decision that lets a gate carry out an instruction, and what the gate knows of its committee then.

    That the decision was not used before is the journal's to say.

    Raises
    ------
    Unmandated
        None was shown, or it is another one, a rejection, or late.
    """
    if shown.fault is not None:
        raise shown.fault
    if shown.decision is None:
        raise Unmandated(f"{action.value} would permit more, which the gate's committee has to decide", REMEDY)
    decision, asked, epoch = shown.decision, shown.decision.asked, trust.newest.epoch
    name = f"the decision {decision.id.hex()[:SHORT_ID]}"
    if shown.known[epoch : epoch + 1] != (trust.newest,):
        raise Unmandated(f"{name} knows nothing of the committee's epoch {epoch}, which has come", REMEDY)
    if not isinstance(asked, Moved) or asked.motion.kind != MOVED_AS[action]:
        raise Unmandated(f"{name} is not about {MOVED_AS[action]}", REMEDY)
    if asked.motion.payload != payload(gate, action, body):
        raise Unmandated(f"{name} is about another instruction, or about another gate", REMEDY)
    if decision.outcome is not Outcome.APPROVED:
        raise Unmandated(f"{name} is a rejection", "Mend what the electors named, and propose it again")
    if not decision.holds_at(now_utc_ns):
        raise Unmandated(f"{name} came after its deadline", "Propose it again")
    return decision, Trust(trust.first, shown.known[-1])


def epoch_facts(committee: Committee) -> dict[str, Any]:
    """The committee of an epoch, for the journal."""
    facts = {"epoch": committee.epoch, "keys": [key.hex() for key in committee.keys], "height": committee.height}
    return facts | {"anchor": committee.anchor.hex(), "quarantined": sorted(committee.quarantined)}


def epoch_of(first: Committee, facts: Mapping[str, Any]) -> Committee:
    """The committee of such facts; the journal wrote them when they were proved."""
    keys = tuple(bytes.fromhex(key) for key in facts["keys"])
    anchor, quarantined = bytes.fromhex(facts["anchor"]), frozenset(facts["quarantined"])
    return Committee(first.chain, facts["epoch"], keys, anchor, facts["height"], quarantined)


def approved(decision: Decision) -> Decision:
    """The decision, if it is an approval.

    Raises
    ------
    Unmandated
        It is a rejection; says what the electors gave as their reasons.
    """
    if decision.outcome is Outcome.APPROVED:
        return decision
    given = decision.asked.ballots if isinstance(decision.asked, Moved) else ()
    reasons = sorted({one.reason for one in given if one.choice is Choice.REJECT})
    raise Unmandated(
        f"the committee has rejected it ({'; '.join(reasons)}), decision {decision.id.hex()[:SHORT_ID]}",
        "The gate stays as it was. Mend what the electors named, and propose it again",
    )


def mode_of(name: Any) -> Mode:
    """A mode by its name.

    Raises
    ------
    InvalidRequest
        There is none of that name.
    """
    try:
        return Mode[name.name if isinstance(name, Mode) else str(name).upper()]
    except KeyError:
        raise InvalidRequest(f"the mode {name!r} is unknown", f"Known are: {', '.join(Mode.__members__)}") from None


def finite(value: Any) -> float:
    """A number that is one.

    Raises
    ------
    InvalidRequest
        It is not finite, or no number.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise InvalidRequest(f"{_short(repr(value))} is no number", "Correct it")
    try:
        number = float(value)
    except OverflowError:
        number = math.inf
    if not math.isfinite(number):
        raise InvalidRequest(f"{number!r} is not finite", "Correct it")
    return number


def _body(action: Action, body: Any) -> dict[str, Any]:
    """What an action needs, each thing written in one way, and nothing else."""
    if action not in _READ:
        raise InvalidRequest(f"{action} permits nothing", "Say it to the gate: it needs nobody's leave")
    if not isinstance(body, Mapping) or not all(isinstance(name, str) for name in body):
        raise InvalidRequest("the body has no named fields", "Give what the action needs")
    return _READ[action](body)


def _kills(body: Mapping[str, Any]) -> dict[str, Any]:
    _only(body, ("kills",))
    kills = body.get("kills")
    if isinstance(kills, bool) or not isinstance(kills, int) or not 0 <= kills < 2**63:
        raise InvalidRequest("how many kills were seen is no count", "Give `kills` of the gate's status")
    return {"kills": kills}


def _mode(body: Mapping[str, Any]) -> dict[str, Any]:
    _only(body, ("mode",))
    return {"mode": mode_of(body.get("mode")).name}


def _limits(body: Mapping[str, Any]) -> dict[str, Any]:
    _only(body, LIMITS)
    return {name: finite(value) for name, value in body.items()}


def _name(body: Mapping[str, Any]) -> dict[str, Any]:
    _only(body, ("name",))
    if not isinstance(body.get("name"), str):
        raise InvalidRequest("no symbol or account is named", "Give its `name`")
    return {"name": body["name"]}


def _holdings(body: Mapping[str, Any]) -> dict[str, Any]:
    _only(body, ("positions", "cash"))
    positions, cash = body.get("positions", {}), body.get("cash", {})
    tables = (positions, cash, *(positions.values() if isinstance(positions, Mapping) else ()))
    if not all(isinstance(table, Mapping) and all(isinstance(key, str) for key in table) for table in tables):
        raise InvalidRequest("positions or cash are none", "Give positions by account and symbol, cash by account")
    return {
        "positions": {
            account: {symbol: finite(held) for symbol, held in units.items()} for account, units in positions.items()
        },
        "cash": {account: finite(money) for account, money in cash.items()},
    }


_READ: Final[dict[Action, Callable[[Mapping[str, Any]], dict[str, Any]]]] = {
    Action.RELEASE_KILL: _kills,
    Action.MODE: _mode,
    Action.LIMITS: _limits,
    Action.RESUME: _name,
    Action.PERMIT: _name,
    Action.ENABLE: _name,
    Action.RECONCILE: _holdings,
}


def _only(body: Mapping[str, Any], known: tuple[str, ...]) -> None:
    strange = sorted(set(body) - set(known))
    if strange:
        raise InvalidRequest(f"{_short(strange[0])} is no field of it", f"Known are: {', '.join(known)}")


def _short(text: str) -> str:
    """A text for a ballot, which has room for no long one and for no half of a pair of surrogates."""
    return text.encode(errors="replace")[: ballots.MOST_REASON_BYTES // 2].decode(errors="ignore")
