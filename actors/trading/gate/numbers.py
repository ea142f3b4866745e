"""Orders, ticks and verdicts as lanes carry them."""

from __future__ import annotations

import numpy as np

from actors.trading.gate import gate_kernels as kernels
from cluster.errors import InvalidRequest
from hive.messages.gate import GateFacts
from hive.messages.orders import Order, Verdict

COUNTERS = (
    *("sequence", "allowed", "reduced", "rejected", "unrecorded", "open_orders", "ticks", "killed", "waiting"),
    *("durable", "kills", "released"),
)


def numbers_of(facts: GateFacts, order: Order) -> np.ndarray:
    """An order as lanes carry it; names that the gate does not know are -1."""
    limited = order.limit_price is not None
    return np.array(
        [
            order.client_order_id,
            _place(facts.accounts, order.account),
            _place(facts.symbols, order.symbol),
            order.side,
            order.quantity,
            kernels.LIMIT if limited else kernels.MARKET,
            order.limit_price if limited else 0.0,
        ],
        np.float64,
    )


def tick_numbers(facts: GateFacts, symbol: str, price: float, ns: int) -> np.ndarray:
    """A tick as lanes carry it."""
    return np.array([_place(facts.symbols, symbol), price, ns // kernels.NS, ns % kernels.NS], np.float64)


def verdict_of(numbers: np.ndarray) -> Verdict:
    """A verdict as lanes carry it.

    Raises
    ------
    InvalidVerdict, ValueError
        The numbers are none.
    """
    decision, quantity, reason, sequence, seconds, rest = numbers.tolist()
    return Verdict.of(decision, quantity, reason, sequence, int(seconds) * kernels.NS + int(rest))


def status_of(numbers: np.ndarray) -> dict[str, int]:
    """Counters as lanes carry them."""
    return dict(zip(COUNTERS, numbers.astype(np.int64).tolist(), strict=True))


def place_in(names: tuple[str, ...], name: str) -> int:
    """Where a name stands.

    Raises
    ------
    InvalidRequest
        Nowhere.
    """
    if name not in names:
        raise InvalidRequest(f"the gate does not know {name!r}", f"Known are: {', '.join(names)}")
    return names.index(name)


def _place(names: tuple[str, ...], name: str) -> int:
    return names.index(name) if name in names else -1
