"""Settings of the pre-trade gate, and which limits permit more than others."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, Literal

from annotated_types import Ge, Gt, Interval

from cluster.errors import InvalidRequest, InvalidSettings


@dataclass(frozen=True)
class GateSettings:
    """Limits that every order is held against, and the sizes of the gate. A very large number switches a limit off."""

    book: str = ""
    """TOML file of accounts and instruments; empty is one account `main` of ten million, flat, lots of 1, ticks of
    0.01. Cash and positions are those an account opens with: from then on the gate's journal knows better."""
    covariance_days: Annotated[int, Ge(2)] = 500
    """Newest daily returns of the snapshot that the value at risk is taken from."""
    price_collar: Annotated[float, Interval(gt=0, lt=1)] = 0.05
    """Largest distance of a limit price from the last price, a fraction of the last price."""
    max_quantity: Annotated[float, Gt(0)] = 100_000.0
    """Largest quantity of one order, units. Beyond it an order is taken for an error and rejected, never reduced."""
    max_notional: Annotated[float, Gt(0)] = 5e6
    """Largest notional of one order at the higher of limit and last price, money; beyond it an order is rejected."""
    duplicate_window_s: Annotated[float, Interval(ge=0, le=3600)] = 0.5
    """How long an allowed order forbids another of the same account, symbol, side, quantity and price, or of the same
    account and client order id, seconds."""
    messages_per_s: Annotated[float, Gt(0)] = 1000.0
    """Orders a second that an account may send in the long run."""
    message_burst: Annotated[float, Ge(1)] = 200.0
    """Orders that an account may send at once."""
    max_gross: Annotated[float, Gt(0)] = 2e7
    """Largest gross exposure of an account if the worst part of its open orders is filled, money."""
    max_net: Annotated[float, Gt(0)] = 1e7
    """Largest absolute net exposure of an account, likewise, money."""
    max_leverage: Annotated[float, Gt(0)] = 2.0
    """Largest gross exposure of an account over its equity (cash and positions at last prices)."""
    credit: Annotated[float, Gt(0)] = 5e7
    """Largest gross exposure of all accounts together, money."""
    short_margin: Annotated[float, Ge(0)] = 0.5
    """Buying power that a short exposure binds beside the proceeds of its sale, a fraction of it."""
    confidence: Annotated[float, Interval(gt=0.5, lt=1)] = 0.99
    """Confidence of the parametric one-day value at risk."""
    max_var_increment: Annotated[float, Gt(0)] = 1e5
    """Most value at risk that one order may add to an account's positions, money a day."""
    max_var: Annotated[float, Gt(0)] = 5e5
    """Largest value at risk of an account's positions plus that of each of its open orders alone, money a day."""
    stale_after_s: Annotated[float, Gt(0)] = 2.0
    """Age of a last price from which orders in its symbol are rejected, seconds."""
    open_orders: Literal[64, 256, 1024, 4096, 16384, 65536] = 4096
    """Reservations that the gate has room for."""
    recent_orders: Literal[256, 1024, 4096, 16384, 65536, 262144] = 16384
    """Room for what the duplicate window remembers, two entries an order."""
    journal_size: Literal[8, 64, 1024, 4096, 16384, 65536, 262144] = 16384
    """Records that may be published and not yet durable: the most that a crash can lose."""
    journal_batch: Annotated[int, Interval(ge=1, le=65536)] = 4096
    """Records from which the journal commits at once."""
    journal_flush_s: Annotated[float, Interval(gt=0, le=10)] = 0.01
    """How long a record waits for others before the journal commits, seconds."""
    lanes: Annotated[int, Interval(ge=1, le=1024)] = 32
    """Callers at a time."""
    spins: Annotated[int, Interval(ge=0, le=1_000_000)] = 2500
    """Looks at the lanes before a gate that has no core of its own sleeps, some 20 ns each: who asks within that time
    is not kept waiting for a wake-up."""
    patience_s: Annotated[float, Gt(0)] = 0.05
    """How long a caller waits for a verdict before it takes the gate for unreachable, seconds."""


LIMITS = (
    *("price_collar", "max_quantity", "max_notional", "duplicate_window_s", "messages_per_s", "message_burst"),
    *("max_gross", "max_net", "max_leverage", "credit", "short_margin", "confidence", "max_var_increment", "max_var"),
    "stale_after_s",
)
"""What may be changed while the gate runs."""
LOOSER_BELOW = ("duplicate_window_s", "short_margin", "confidence")
"""Limits of which a smaller number permits more; of all others it is the larger."""


def with_limits(settings: GateSettings, changes: Mapping[str, float]) -> GateSettings:
    """Settings with other limits.

    Raises
    ------
    InvalidRequest
        A value is no number.
    InvalidSettings
        A name is no limit, or a value is out of its range.
    """
    from pydantic import TypeAdapter, ValidationError

    strange = sorted(set(changes) - set(LIMITS))
    if strange:
        raise InvalidSettings(f"{strange[0]} is no limit of the gate", f"Known are: {', '.join(LIMITS)}")
    for value in changes.values():
        _require_number(value)
    values = {item.name: getattr(settings, item.name) for item in fields(settings)} | dict(changes)
    try:
        return TypeAdapter(GateSettings).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        raise InvalidSettings(f"{first['loc'][0]} is {first['input']!r}: {first['msg']}", "Correct it") from error


def loosens(before: GateSettings, after: GateSettings) -> bool:
    """Whether any limit permits more than before."""
    return any(
        getattr(after, n) < getattr(before, n) if n in LOOSER_BELOW else getattr(after, n) > getattr(before, n)
        for n in LIMITS
    )


def _require_number(value: Any) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
        raise InvalidRequest(f"{value!r} is no number", "Correct it")
