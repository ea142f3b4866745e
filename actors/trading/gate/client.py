"""A caller's side of the gate: over a lane where there is one, through whatever else reaches it where there is none."""

from __future__ import annotations

import os
import struct
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from actors.trading.gate import mandate, switch
from actors.trading.gate.gate import Gate
from actors.trading.gate.numbers import status_of, tick_numbers
from cluster.errors import DeadlineExceeded, InvalidRequest, LaneLost, SwarmUnavailable, UnknownSnapshot
from cluster.lanes.lane import Lane
from cluster.lanes.peer import started
from consensus import decisions
from hive.messages.gate import Action, GateFacts, GateStatus, Instruction, Unmandated, Warrant
from hive.messages.orders import TEXTS, Decision, Order, Outcome, Reason, Verdict

DURABLE_S = 1.0  # how long a verdict may take to the disk, where the caller says nothing else
LOOK_S = 0.0005
IN_FLIGHT = 16  # messages of a batch on their way at a time
PLAIN_S = 10.0  # for an instruction or a status, which a person waits for
NOTHING = np.empty(0)
CHECK, LIMIT, MARKET, NS = kernels.CHECK, kernels.LIMIT, kernels.MARKET, kernels.NS

_pack_order = struct.Struct(f"{kernels.ORDER}d").pack_into


Decide = Callable[[str, str, bytes], decisions.Decision]
"""(proposer, kind, payload) -> what the committee decided; raises where it decides nothing."""


@dataclass(frozen=True)
class Obeyed:
    """An instruction that the gate has carried out."""

    answer: Any
    """As :meth:`actors.trading.gate.control.Control.obey` gives it."""
    decision: decisions.Decision | None
    """Of the committee; None where the gate asked for none."""


class Reach(Protocol):
    """How the gate is found and asked without a lane."""

    def open(self, patience_s: float) -> tuple[Lane | None, GateFacts]:
        """A lane to the gate as it lives now, None where this process can have none, and its facts."""

    def call(self, operation: int, numbers: np.ndarray, tag: int, patience_s: float) -> np.ndarray:
        """One question without a lane."""

    def instruct(self, instruction: Instruction, patience_s: float) -> Any:
        """Have an instruction carried out."""

    def describe(self, patience_s: float) -> GateStatus:
        """Everything that a person must know of the gate."""


class GateClient:
    """The gate, from any process. No verdict raises: an order without one in time is rejected as GATE_UNREACHABLE.

    Such an order may have been allowed meanwhile; it is abandoned, before anything else is asked, as soon as a gate
    answers again, so that it binds nothing. A gate that died is found again when Ray has restarted it. One thread uses
    a client.

    Parameters
    ----------
    lane : Lane, optional
        To a gate with these ``facts``; without it the client finds one by ``reach`` at the first question.
    decide : callable, optional
        How :meth:`propose` has the committee decide.
    """

    def __init__(
        self,
        lane: Lane | None = None,
        facts: GateFacts | None = None,
        *,
        reach: Reach | None = None,
        decide: Decide | None = None,
    ) -> None:
        self._decide = decide
        self._reach, self._lane, self._calls = reach, lane, False
        self._doubtful: list[tuple[int, str, int]] = []
        self._known = 0
        self._question = np.zeros(kernels.ORDER)
        self._bytes = self._question.data
        self._facts: GateFacts | None = None
        self._accounts: dict[str, float] = {}
        self._symbols: dict[str, float] = {}
        self._tag = 0
        self._patience_s = 0.0
        if facts is not None:
            self._learn(facts)

    @classmethod
    def here(cls, gate: Gate, strategy: str = "park") -> GateClient:
        """A client in the gate's own process."""
        own = os.getpid()
        return cls(Lane(gate.open(own, started(own), strategy), strategy), gate.facts)

    @property
    def distance(self) -> str:
        """How the last question went: ``lane``, ``call``, or ``lost`` where none can be asked now."""
        return "lane" if self._lane is not None else "call" if self._calls else "lost"

    def facts(self, patience_s: float = PLAIN_S) -> GateFacts:
        """Accounts and symbols that the gate knows.

        Raises
        ------
        SwarmUnavailable, DeadlineExceeded
            No gate answers.
        """
        self._settle(time.monotonic() + patience_s)
        assert self._facts is not None
        return self._facts

    def check(self, order: Order, *, patience_s: float | None = None, durable: bool = False) -> Verdict:
        """Judge an order; what is allowed is reserved.

        Parameters
        ----------
        patience_s : float, optional
            ``gate.patience_s`` by default, a second where it must be durable.
        durable : bool
            Return when the verdict is on disk; an order for which that takes too long is released and rejected.
        """
        patience = patience_s if patience_s is not None else DURABLE_S if durable else self._patience_s
        try:
            if self._doubtful or not (self._lane or self._calls):
                patience = self._settled_within(patience)
            verdict = self._judged(order, patience)
        except UnknownSnapshot:  # another life of the gate, or other symbols: nothing was judged
            try:
                self._learn_anew(patience)
                verdict = self._judged(order, patience)
            except Exception as error:
                return self._unreachable(error)
        except Exception as error:
            return self._unreachable(error)
        return self._on_disk(order, verdict, patience) if durable and verdict.quantity else verdict

    def check_many(self, orders: Sequence[Order], *, patience_s: float | None = None) -> list[Verdict]:
        """Judge orders one after the other, many to a message: nothing else comes between those of one message."""
        patience = patience_s if patience_s is not None else max(self._patience_s, DURABLE_S)
        now = time.monotonic_ns()
        try:
            self._settle(time.monotonic() + patience)
            questions = np.zeros((len(orders), kernels.ORDER))
            for row, order in zip(questions, orders, strict=True):
                self._write(row.data, order)
            answers = self.check_numbers(questions, patience_s=patience)
        except Exception:
            return [Verdict.unreachable(now) for _ in orders]
        return [
            Verdict.of(d, q, r, s, int(seconds) * kernels.NS + int(rest))
            for d, q, r, s, seconds, rest in answers.tolist()
        ]

    def check_numbers(self, questions: np.ndarray, *, patience_s: float) -> np.ndarray:
        """Many orders in bare numbers, several messages on their way at a time.

        Parameters
        ----------
        questions : ndarray of shape (n_orders, 7)
            Client order id, place of the account and of the symbol in :meth:`facts`, side, quantity, 1 for a limit or
            0 for a market order, limit price or 0.

        Returns
        -------
        ndarray of shape (n_orders, 6)
            Decision, quantity, reason, sequence number, and seconds and nanoseconds of the clock. Orders without an
            answer in time are rejected as GATE_UNREACHABLE.

        Raises
        ------
        SwarmUnavailable, DeadlineExceeded
            No gate answers; nothing was judged.
        """
        give_up = time.monotonic() + patience_s
        self._settle(give_up)
        answers = np.zeros((len(questions), kernels.VERDICT))
        answers[:, 2] = Reason.GATE_UNREACHABLE
        questions = np.ascontiguousarray(questions, np.float64)
        step, known, sent, done = kernels.MANY, self._known, 0, 0
        try:
            while done < len(questions):
                left = max(0.0, give_up - time.monotonic())
                if self._lane is None:
                    found = self._ask(kernels.CHECK_MANY, questions[done : done + step].ravel(), left)
                else:
                    while sent < len(questions) and sent - done < IN_FLIGHT * step:
                        message = questions[sent : sent + step].ravel()
                        self._lane.send(kernels.CHECK_MANY, message, patience_s=left, snapshot=self._tag)
                        sent += step
                    found = self._lane.receive(patience_s=left)
                verdicts = found.reshape(-1, kernels.VERDICT)
                answers[done : done + len(verdicts)] = verdicts
                done += len(verdicts)
        except Exception as error:
            names = {place: name for name, place in self._accounts.items()}
            self._doubtful += [
                (int(number), names[account], known)
                for number, account in questions[done:, :2].tolist()
                if account in names and 1 <= number < 2**53
            ]
            self._unreachable(error)
        if done:
            self._known = max(self._known, int(answers[:done, 3].max()))
        return answers

    def commit(self, sequence: int, filled: float, price: float) -> Outcome:
        """As :meth:`Gate.commit`; GATE_UNREACHABLE where nobody knows whether it was done: say it again."""
        return self._outcome(kernels.COMMIT, lambda: np.array([sequence, filled, price], np.float64))

    def release(self, sequence: int) -> Outcome:
        """As :meth:`Gate.release`."""
        return self._outcome(kernels.RELEASE, lambda: np.array([sequence], np.float64))

    def tick(self, symbol: str, price: float, ns: int | None = None) -> Outcome:
        """A last price, true now or at a reading of the monotonic clock of the gate's machine."""
        at = time.monotonic_ns() if ns is None else ns
        return self._outcome(kernels.TICK, lambda: tick_numbers(self.facts(), symbol, price, at))

    def status(self) -> dict[str, int] | None:
        """Counters of the gate; None where it does not answer."""
        try:
            return status_of(self._asked(kernels.STATUS, lambda: NOTHING))
        except Exception as error:
            self._unreachable(error)
            return None

    def describe(self, patience_s: float = PLAIN_S) -> GateStatus:
        """Mode, kills, limits, positions, reservations, stale prices, journal.

        Raises
        ------
        SwarmUnavailable, DeadlineExceeded
            No gate answers.
        """
        return self._reached().describe(patience_s)

    def kill(self, reason: str = "", operator: str | None = None) -> switch.Kill:
        """Close the gate at once, by shared memory and on file: see :func:`actors.trading.gate.switch.kill`."""
        by = Warrant(operator or switch.user(), reason)
        if self._lane is not None and self._facts is not None:
            return switch.kill(Path(self._facts.directory), by)
        self.instruct(Action.KILL, {}, by)
        return switch.Kill(True, "")

    def instruct(
        self,
        action: Action,
        body: dict[str, Any],
        by: Warrant,
        patience_s: float = PLAIN_S,
        *,
        decision: decisions.Decision | None = None,
    ) -> Any:
        """Have the gate carry out an instruction; see :meth:`.Control.obey` for what each needs.

        Parameters
        ----------
        decision : consensus.decisions.Decision, optional
            Of the committee about :func:`actors.trading.gate.mandate.payload` of this instruction: a gate that has a
            committee permits more by it alone, once, before its deadline.

        Raises
        ------
        Unwarranted, Unmandated, InvalidRequest, InvalidSettings, JournalUnavailable
            As :meth:`.Control.obey` says.
        SwarmUnavailable, DeadlineExceeded
            No gate answers.
        """
        if decision is not None:
            by = replace(by, decision=decision.id, evidence=decision.evidence)
        return self._reached().instruct(Instruction(action, body, by), patience_s)

    def propose(self, action: Action, body: dict[str, Any], by: Warrant, patience_s: float = PLAIN_S) -> Obeyed:
        """As :meth:`instruct`; where the gate asks for it, have the committee decide first, and show the decision.

        What permits less takes effect at once, and so does everything at a gate without a committee.

        Raises
        ------
        Unmandated
            The committee has rejected it, or what it decided does not hold at the gate; nothing has changed.
        NoQuorum, Undecided
            Too few of the committee answered in time; nothing has changed.
        """
        try:
            return Obeyed(self.instruct(action, body, by, patience_s), None)
        except Unmandated:
            if self._decide is None:
                raise
        moved = mandate.payload(self.facts(patience_s).identity, action, body)
        decision = mandate.approved(self._decide(by.operator, mandate.MOVED_AS[action], moved))
        return Obeyed(self.instruct(action, body, by, patience_s, decision=decision), decision)

    def close(self) -> None:
        """Hang up. Orders in doubt stay reserved where the gate still does not answer."""
        if self._doubtful:
            with suppress(Exception):
                self._settle(time.monotonic() + self._patience_s)
        self._drop()
        self._reach = None
        self._calls = False

    def __enter__(self) -> GateClient:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _judged(self, order: Order, patience_s: float) -> Verdict:
        """The verdict; while there is none, the order is in doubt."""
        self._write(self._bytes, order)
        self._doubtful.append((order.client_order_id, order.account, self._known))
        try:
            if self._lane is not None:
                found = self._lane.ask(CHECK, self._question, patience_s=patience_s, snapshot=self._tag)
            else:
                found = self._ask(CHECK, self._question, patience_s)
        except UnknownSnapshot:
            self._doubtful.pop()
            raise
        decision, quantity, reason, sequence, seconds, rest = found.tolist()
        verdict = Verdict.of(decision, quantity, reason, sequence, int(seconds) * NS + int(rest))
        if quantity > order.quantity:
            raise InvalidRequest(f"{quantity} of {order.quantity} units allowed", "Restart the gate")
        self._doubtful.pop()
        self._known = verdict.sequence or self._known  # it only rises; 0 is a verdict without a record
        return verdict

    def _write(self, row: memoryview, order: Order) -> None:
        price = order.limit_price
        account, symbol = self._accounts.get(order.account, -1.0), self._symbols.get(order.symbol, -1.0)
        kind, limit = (MARKET, 0.0) if price is None else (LIMIT, price)
        _pack_order(row, 0, order.client_order_id, account, symbol, order.side, order.quantity, kind, limit)

    def _on_disk(self, order: Order, verdict: Verdict, patience_s: float) -> Verdict:
        """The verdict when it is on disk; else its order is released, and rejected."""
        give_up = time.monotonic() + patience_s
        question = np.array([verdict.sequence], np.float64)
        with suppress(Exception):  # another life of the gate has another tag: it never answers for this one
            while self._ask(kernels.DURABLE, question, give_up - time.monotonic())[0] < verdict.sequence:
                if time.monotonic() >= give_up:
                    raise DeadlineExceeded("the verdict is not on disk in time", "Look at the gate's journal")
                time.sleep(LOOK_S)
            return verdict
        if self.release(verdict.sequence) not in (Outcome.DONE, Outcome.NOT_OPEN, Outcome.UNKNOWN_ORDER):
            self._doubtful.append((order.client_order_id, order.account, verdict.sequence - 1))
        reason = Reason.NOT_DURABLE
        return Verdict(Decision.REJECT, 0.0, reason, TEXTS[reason], verdict.sequence, verdict.ns)

    def _asked(self, operation: int, numbers: Callable[[], np.ndarray]) -> np.ndarray:
        """What may be said twice, said once more where the gate was restarted; its places may be others then."""
        try:
            found = self._facts is not None  # finding the gate the first time is for free, as with checks
            self._settle(time.monotonic() + ((self._patience_s if found else 0) or PLAIN_S))
            return self._ask(operation, numbers(), self._patience_s)
        except (LaneLost, UnknownSnapshot) as error:
            if self._reach is None:
                raise
            self._unreachable(error)
            self._settle(time.monotonic() + self._patience_s)
            return self._ask(operation, numbers(), self._patience_s)

    def _ask(self, operation: int, numbers: np.ndarray, patience_s: float) -> np.ndarray:
        left = max(0.0, patience_s)
        if self._lane is not None:
            return self._lane.ask(operation, numbers, patience_s=left, snapshot=self._tag)
        return self._reached().call(operation, numbers, self._tag, left)

    def _outcome(self, operation: int, numbers: Callable[[], np.ndarray]) -> Outcome:
        try:
            return Outcome(int(self._asked(operation, numbers)[0]))
        except (ValueError, OverflowError):
            return Outcome.INVALID_NUMBER
        except Exception as error:
            self._unreachable(error)
            return Outcome.GATE_UNREACHABLE

    def _settled_within(self, patience_s: float) -> float:
        """What is left of the patience when the gate is found and nothing is in doubt; the first time is for free."""
        if self._facts is None:
            self._settle(time.monotonic() + PLAIN_S)
            return patience_s or self._patience_s
        begun = time.monotonic()
        self._settle(begun + self._patience_s)
        return max(0.0, patience_s - (time.monotonic() - begun))

    def _settle(self, give_up: float) -> None:
        """Find the gate where it is not found, and abandon what is in doubt."""
        if self._lane is None and not self._calls:
            self._find(give_up)
        while self._doubtful:
            number, account, known = self._doubtful[0]
            place = self._accounts.get(account)
            if place is not None:
                question = np.array([number, place, known], np.float64)
                outcome = self._ask(kernels.ABANDON, question, give_up - time.monotonic())[0]
                if outcome == Outcome.JOURNAL_FULL:
                    raise InvalidRequest("an order in doubt could not be abandoned", "Ask again")
            self._doubtful.pop(0)

    def _find(self, give_up: float) -> None:
        lane, facts = self._reached().open(max(0.0, give_up - time.monotonic()))
        self._lane, self._calls = lane, lane is None
        self._learn(facts)

    def _learn_anew(self, patience_s: float) -> None:
        self._drop()
        self._calls = False
        self._settle(time.monotonic() + patience_s)

    def _learn(self, facts: GateFacts) -> None:
        self._facts, self._tag, self._patience_s = facts, facts.tag, facts.patience_s
        self._accounts = {name: float(place) for place, name in enumerate(facts.accounts)}
        self._symbols = {name: float(place) for place, name in enumerate(facts.symbols)}

    def _unreachable(self, error: Exception) -> Verdict:
        """What an order gets, and a fresh start with the next where this gate is gone or speaks of other names."""
        if isinstance(error, (LaneLost, UnknownSnapshot)) and self._reach is not None:
            self._drop()
            self._calls = False
        return Verdict.unreachable(time.monotonic_ns())

    def _drop(self) -> None:
        lane, self._lane = self._lane, None
        if lane is not None:
            with suppress(Exception):
                lane.close()

    def _reached(self) -> Reach:
        if self._reach is None:
            raise SwarmUnavailable("this client has no way to the gate but a lane that is gone", "Make a new one")
        return self._reach
