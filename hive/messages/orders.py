"""Orders as they come to the pre-trade gate, and what the gate says to them."""

from __future__ import annotations

import math
from enum import IntEnum

from cluster.errors import InvalidInput
from hive.messages.codec import message

INFINITY = math.inf
LARGEST_ID = 2**53 - 1  # whole numbers up to here survive as float64, which is what lanes carry


class InvalidOrder(InvalidInput):
    """An order's field is missing or out of range."""


class InvalidVerdict(InvalidInput):
    """A verdict contradicts itself."""


class Side(IntEnum):
    """Direction of an order; the sign of what it adds to a position."""

    BUY = 1
    SELL = -1


class Decision(IntEnum):
    """What the gate says: the whole order, none of it, or a smaller one."""

    REJECT = 0
    ALLOW = 1
    REDUCE = 2


class Mode(IntEnum):
    """Health of the platform; the gate permits everything, reductions only, or nothing."""

    FULL_PERFORMANCE = 0
    SAFE_MODE = 1
    EMERGENCY_SHUTDOWN = 2


class Reason(IntEnum):
    """First check that an order failed, in the order of checking; those from CAPACITY on are the gate's own state."""

    PASSED = 0
    KILLED = 1
    LIMITS_UNREADABLE = 2
    INVALID_NUMBER = 3
    UNKNOWN_ACCOUNT = 4
    ACCOUNT_DISABLED = 5
    UNKNOWN_SYMBOL = 6
    RESTRICTED = 7
    TICK = 8
    LOT = 9
    PRICE_COLLAR = 10
    MAX_QUANTITY = 11
    MAX_NOTIONAL = 12
    DUPLICATE = 13
    MESSAGE_RATE = 14
    POSITION = 15
    GROSS = 16
    NET = 17
    LEVERAGE = 18
    CREDIT = 19
    BUYING_POWER = 20
    VAR_INCREMENT = 21
    VAR = 22
    HALTED = 23
    MODE = 24
    STALE_DATA = 25
    CAPACITY = 26
    JOURNAL_FULL = 27
    GATE_UNREACHABLE = 28
    NOT_DURABLE = 29


class Outcome(IntEnum):
    """What became of a fill, a release or a tick; only ``DONE`` changed anything."""

    DONE = 0
    REPEATED = 1
    """This much of the order was filled already."""
    NOT_OPEN = 2
    """The order was released, filled or rejected before."""
    UNKNOWN_ORDER = 3
    """No verdict has this sequence number."""
    OVERFILL = 4
    """More than the gate allowed."""
    INVALID_NUMBER = 5
    OUT_OF_DATE = 6
    """A tick older than the last one of its symbol, or from the future."""
    JOURNAL_FULL = 7
    GATE_UNREACHABLE = 8


class Operation(IntEnum):
    """What a lane to the gate carries."""

    CHECK = 1
    COMMIT = 2
    RELEASE = 3
    TICK = 4
    STATUS = 5
    ABANDON = 6
    DURABLE = 7
    CHECK_MANY = 8


TEXTS: dict[Reason, str] = {
    Reason.PASSED: "every check passed",
    Reason.KILLED: "the kill switch is latched",
    Reason.LIMITS_UNREADABLE: "the limits cannot be read",
    Reason.INVALID_NUMBER: "a number of the order or of the book is not finite or out of range",
    Reason.UNKNOWN_ACCOUNT: "the gate does not know the account",
    Reason.ACCOUNT_DISABLED: "the account is not authorised to trade",
    Reason.UNKNOWN_SYMBOL: "the gate does not know the symbol",
    Reason.RESTRICTED: "the instrument is restricted",
    Reason.TICK: "the limit price is no multiple of the tick",
    Reason.LOT: "the quantity is no multiple of the lot",
    Reason.PRICE_COLLAR: "the limit price is too far from the last price",
    Reason.MAX_QUANTITY: "the quantity is beyond the largest of one order",
    Reason.MAX_NOTIONAL: "the notional is beyond the largest of one order",
    Reason.DUPLICATE: "the same order, or its id, was allowed a moment ago",
    Reason.MESSAGE_RATE: "the account sends too many orders a second",
    Reason.POSITION: "the position would pass its limit",
    Reason.GROSS: "the account's gross exposure would pass its limit",
    Reason.NET: "the account's net exposure would pass its limit",
    Reason.LEVERAGE: "the account's leverage would pass its limit",
    Reason.CREDIT: "the gross exposure of all accounts would pass the credit limit",
    Reason.BUYING_POWER: "the account's buying power does not suffice",
    Reason.VAR_INCREMENT: "the order would add too much value at risk",
    Reason.VAR: "the account's value at risk, open orders included, would pass its limit",
    Reason.HALTED: "the market in this instrument is halted",
    Reason.MODE: "the system's mode does not permit it",
    Reason.STALE_DATA: "the last price is missing or too old",
    Reason.CAPACITY: "the gate has no room for another open order",
    Reason.JOURNAL_FULL: "the journal has no room, and nothing is decided without a record",
    Reason.GATE_UNREACHABLE: "the gate did not answer",
    Reason.NOT_DURABLE: "the verdict did not reach the disk in time, and the order is released",
}


@message
class Order:
    """An order to be checked. Its price is in the account's currency.

    Raises
    ------
    InvalidOrder
        A field is missing or out of range.
    """

    client_order_id: int
    """Positive, below 2^53; unique in its account within the duplicate window."""
    account: str
    symbol: str
    side: Side
    quantity: float
    """Units, positive."""
    limit_price: float | None = None
    """Money a unit, positive; None for a market order."""

    def __post_init__(self) -> None:
        number = self.client_order_id
        if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= LARGEST_ID:
            raise InvalidOrder(f"client_order_id is {number!r}", f"Give a whole number from 1 to {LARGEST_ID}")
        for name in ("account", "symbol"):
            value = getattr(self, name)
            if not isinstance(value, str) or not value:
                raise InvalidOrder(f"{name} is {value!r}", "Give its name")
        if type(self.side) not in (int, Side) or self.side not in (Side.BUY, Side.SELL):
            raise InvalidOrder(f"side is {self.side!r}", "Give Side.BUY or Side.SELL")
        object.__setattr__(self, "side", Side(self.side))
        if not _positive(self.quantity):
            raise InvalidOrder(f"quantity is {self.quantity!r}", "Give a positive number of units")
        if self.limit_price is not None and not _positive(self.limit_price):
            raise InvalidOrder(f"limit_price is {self.limit_price!r}", "Give a positive price, or None for market")


@message
class Verdict:
    """What the gate decided about one order.

    Raises
    ------
    InvalidVerdict
        The decision, the quantity and the reason contradict each other.
    """

    decision: Decision
    quantity: float
    """Units that may be sent; 0 where rejected."""
    reason: Reason
    text: str
    """The reason, for people."""
    sequence: int
    """Of the journal's record, by which the order is filled and released; 0 where there is no record."""
    ns: int
    """Reading of the monotonic clock at which it was decided, nanoseconds."""

    def __post_init__(self) -> None:
        rejected = self.decision is Decision.REJECT
        if not isinstance(self.decision, Decision) or not isinstance(self.reason, Reason):
            raise InvalidVerdict(f"a verdict of {self.decision!r} for {self.reason!r}", "Give members of the enums")
        if rejected != (self.quantity == 0) or not (rejected or _positive(self.quantity)):
            raise InvalidVerdict(f"{self.decision.name} of {self.quantity!r} units", "Allow some, or reject with 0")
        if (self.decision is Decision.ALLOW) != (self.reason is Reason.PASSED):
            raise InvalidVerdict(f"{self.decision.name} because {self.reason.name}", "Only ALLOW passes every check")
        if self.sequence < 0 or (self.sequence == 0 and not rejected):
            raise InvalidVerdict(f"a verdict with the sequence number {self.sequence}", "Number it from 1")

    @classmethod
    def unreachable(cls, ns: int) -> Verdict:
        """What an order gets that no gate has judged."""
        reason = Reason.GATE_UNREACHABLE
        return cls(Decision.REJECT, 0.0, reason, TEXTS[reason], 0, ns)

    @classmethod
    def of(cls, decision: float, quantity: float, reason: float, sequence: float, ns: int) -> Verdict:
        """A verdict from a gate's numbers: validated as any other, in a third of the time.

        Raises
        ------
        InvalidVerdict
            The numbers are none.
        """
        known = _POSSIBLE.get((decision, reason))
        some = 0.0 < quantity < INFINITY
        if known is None or some is not known[1] or (not some and quantity != 0.0) or not some <= sequence < INFINITY:
            raise InvalidVerdict(
                f"the numbers {decision}, {quantity}, {reason}, {sequence} are no verdict", "Ask again"
            )
        verdict = object.__new__(cls)
        verdict.__dict__.update(known[0], quantity=quantity, sequence=int(sequence), ns=ns)
        return verdict


_POSSIBLE = {
    (float(decision), float(reason)): (
        {"decision": decision, "reason": reason, "text": TEXTS[reason]},
        decision is not Decision.REJECT,
    )
    for decision in Decision
    for reason in Reason
    if (decision is Decision.ALLOW) == (reason is Reason.PASSED)
}
"""Fields of a verdict by decision and reason, and whether it allows some."""


def _positive(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value > 0
