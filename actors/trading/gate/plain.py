"""Plain twin of :mod:`actors.trading.gate.gate_kernels`: the same rules from lists of orders, nothing kept as a sum."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from hive.messages.orders import LARGEST_ID, Mode, Outcome, Reason

NS = 1_000_000_000
TOLERANCE = 1e-6


@dataclass
class PlainLimits:
    """Limits by name, as in :class:`actors.trading.gate.settings.GateSettings`, and by symbol and account."""

    collar: float
    max_quantity: float
    max_notional: float
    window_ns: int
    rate: float
    burst: float
    max_gross: float
    max_net: float
    max_leverage: float
    credit: float
    margin: float
    quantile: float
    max_var_increment: float
    max_var: float
    stale_ns: float
    mode: Mode
    listed: list[bool]
    halted: list[bool]
    tick: list[float]
    lot: list[float]
    max_position: list[float]
    enabled: list[bool]
    loan: list[float]


@dataclass
class PlainOrder:
    """An order with numbers for names; price 0 and no ``limit`` for a market order."""

    number: float
    account: float
    symbol: float
    side: float
    quantity: float
    limit: bool
    price: float


@dataclass
class PlainReservation:
    """What is left of an allowed order."""

    order: PlainOrder
    allowed: float
    price: float
    filled: float = 0.0

    @property
    def rest(self) -> float:
        """Units that may still be filled."""
        return self.allowed - self.filled


@dataclass
class PlainGate:
    """The book: cash by account, positions of shape (accounts, symbols), last prices and when they were true."""

    limits: PlainLimits
    covariance: np.ndarray
    cash: list[float]
    held: np.ndarray
    prices: list[float]
    ticked: list[int]
    killed: bool = False
    sequence: int = 0
    tokens: dict[int, float] = field(default_factory=dict)
    counted: dict[int, int] = field(default_factory=dict)
    open: dict[int, PlainReservation] = field(default_factory=dict)
    recent: dict[tuple[object, ...], int] = field(default_factory=dict)

    def decide(self, order: PlainOrder, now: int) -> tuple[Reason, float]:
        """Reason and quantity allowed, which is reserved under the next sequence number."""
        reason, allowed = self.check(order, now)
        self.sequence += 1
        if allowed > 0:
            self.open[self.sequence] = PlainReservation(order, allowed, self.reservation_price(order))
            for key in self.keys(order):
                self.recent[key] = now
        return reason, allowed

    def check(self, order: PlainOrder, now: int) -> tuple[Reason, float]:
        """Reason and quantity allowed."""
        reason = self.first_offence(order, now)
        if reason is not Reason.PASSED:
            return reason, 0.0
        reason = self.size_offence(order, order.quantity, now)
        if reason is Reason.PASSED:
            return reason, order.quantity
        lot = self.limits.lot[int(order.symbol)]
        for lots in range(round(order.quantity / lot) - 1, 0, -1):
            if self.size_offence(order, lots * lot, now) is Reason.PASSED:
                return reason, lots * lot
        return reason, 0.0

    def first_offence(self, order: PlainOrder, now: int) -> Reason:
        """The checks that come before those of size."""
        limits = self.limits
        if self.killed:
            return Reason.KILLED
        if not sound(order):
            return Reason.INVALID_NUMBER
        if order.account not in range(len(self.cash)):
            return Reason.UNKNOWN_ACCOUNT
        if not limits.enabled[int(order.account)]:
            return Reason.ACCOUNT_DISABLED
        if order.symbol not in range(len(self.prices)):
            return Reason.UNKNOWN_SYMBOL
        symbol = int(order.symbol)
        if not limits.listed[symbol]:
            return Reason.RESTRICTED
        if order.limit and not multiple(order.price, limits.tick[symbol]):
            return Reason.TICK
        if not multiple(order.quantity, limits.lot[symbol]):
            return Reason.LOT
        reason = self.price_offence(order, symbol)
        if reason is not Reason.PASSED:
            return reason
        if any(key in self.recent and now - self.recent[key] < limits.window_ns for key in self.keys(order)):
            return Reason.DUPLICATE
        return Reason.PASSED if self.take_token(int(order.account), now) else Reason.MESSAGE_RATE

    def price_offence(self, order: PlainOrder, symbol: int) -> Reason:
        """The checks against the last price, and those for errors of size."""
        limits = self.limits
        last = self.prices[symbol]
        if not last > 0:
            return Reason.STALE_DATA
        if order.limit and abs(order.price - last) > limits.collar * last:
            return Reason.PRICE_COLLAR
        if order.quantity > limits.max_quantity:
            return Reason.MAX_QUANTITY
        if order.quantity * max(order.price, last) > limits.max_notional:
            return Reason.MAX_NOTIONAL
        return Reason.PASSED

    def size_offence(self, order: PlainOrder, quantity: float, now: int) -> Reason:
        """The checks that depend on the size, and those after them, for so much of the order."""
        limits, account, symbol = self.limits, int(order.account), int(order.symbol)
        before = self.state(account)
        rest = [*self.rests(account), (symbol, order.side, quantity, self.reservation_price(order))]
        after = self.state(account, rest)
        firm = sum(self.state(other)["gross"] for other in range(len(self.cash)) if other != account) + after["gross"]
        reduction = quantity <= self.closing(account, symbol, order.side)
        variance, added = self.variance(account), np.zeros(len(self.prices))
        added[symbol] = order.side * quantity * self.prices[symbol]
        root = limits.quantile * math.sqrt(max(variance, 0.0))
        then = limits.quantile * math.sqrt(max(self.variance(account, added), 0.0))
        equity = self.cash[account] + float(self.held[account] @ np.array(self.prices))
        most = limits.max_leverage * equity if limits.max_leverage < math.inf else math.inf
        net = after["long"] if order.side > 0 else -after["short"]
        beyond = {
            Reason.POSITION: after["extremes"][symbol] > limits.max_position[symbol],
            Reason.GROSS: after["gross"] > limits.max_gross,
            Reason.NET: net > limits.max_net,
            Reason.LEVERAGE: after["gross"] > most,
            Reason.CREDIT: firm > limits.credit,
            Reason.BUYING_POWER: after["bound"] > self.cash[account] + limits.loan[account],
            Reason.VAR_INCREMENT: then - root > limits.max_var_increment,
            Reason.VAR: root
            + limits.quantile
            * (before["open"] + quantity * self.prices[symbol] * math.sqrt(self.covariance[symbol, symbol]))
            > limits.max_var,
        }
        if not reduction:
            for reason, offends in beyond.items():
                if offends:
                    return reason
        if limits.halted[symbol]:
            return Reason.HALTED
        if limits.mode is Mode.EMERGENCY_SHUTDOWN or (limits.mode is Mode.SAFE_MODE and not reduction):
            return Reason.MODE
        fresh = 0 <= now - self.ticked[symbol] <= limits.stale_ns
        return Reason.PASSED if fresh else Reason.STALE_DATA

    def rests(self, account: int) -> list[tuple[int, float, float, float]]:
        """(symbol, side, units, price) of an account's open orders."""
        found = [r for r in self.open.values() if r.order.account == account]
        return [(int(r.order.symbol), r.order.side, r.rest, r.price) for r in found]

    def closing(self, account: int, symbol: int, side: float) -> float:
        """Units of the position that no open order closes yet."""
        held = self.held[account, symbol]
        committed = sum(units for s, way, units, _ in self.rests(account) if s == symbol and way == side)
        return float(-side * held - committed)

    def state(self, account: int, rests: list[tuple[int, float, float, float]] | None = None) -> dict[str, Any]:
        """Sums over symbols of the worst that open orders can do."""
        rests = self.rests(account) if rests is None else rests
        gross = long = short = bound = deviation = 0.0
        extremes = []
        for symbol, price in enumerate(self.prices):
            held = self.held[account, symbol]
            buys = sum(units for s, side, units, _ in rests if s == symbol and side > 0)
            sells = sum(units for s, side, units, _ in rests if s == symbol and side < 0)
            cost = sum(units * p for s, side, units, p in rests if s == symbol and side > 0)
            high, low = held + buys, held - sells
            extremes.append(max(abs(high), abs(low)))
            gross += extremes[-1] * price
            long += high * price
            short += low * price
            opening = max(buys - max(-held, 0.0), 0.0)
            bound += cost * opening / buys if buys else 0.0
            bound += (self.limits.margin * max(-low, 0.0) + max(-held, 0.0)) * price
            deviation += math.sqrt(self.covariance[symbol, symbol]) * price * (buys + sells)
        return {
            "gross": gross,
            "long": long,
            "short": short,
            "bound": bound,
            "open": deviation,
            "extremes": extremes,
        }

    def variance(self, account: int, added: np.ndarray | float = 0.0) -> float:
        """Of a day's profit of the positions, money squared."""
        exposures = self.held[account] * np.array(self.prices) + added
        return float(exposures @ self.covariance @ exposures)

    def reservation_price(self, order: PlainOrder) -> float:
        """What a unit may cost."""
        return order.price if order.limit else self.prices[int(order.symbol)] * (1 + self.limits.collar)

    def take_token(self, account: int, now: int) -> bool:
        """Whether the account may send another order now."""
        since = max(now - self.counted.get(account, now), 0)
        tokens = min(self.tokens.get(account, self.limits.burst) + self.limits.rate * 1e-9 * since, self.limits.burst)
        self.counted[account] = max(now, self.counted.get(account, now))
        self.tokens[account] = tokens - 1 if tokens >= 1 else tokens
        return tokens >= 1

    def keys(self, order: PlainOrder) -> tuple[tuple[object, ...], tuple[object, ...]]:
        """What makes an order the same as another: its content, and its id."""
        content = (order.account, order.symbol, order.side, order.quantity, order.limit, order.price)
        return content, ("id", order.account, order.number)

    def commit(self, sequence: int, filled: float, price: float) -> Outcome:
        """Outcome of a fill of so many units in all."""
        if not (0 < filled < math.inf and 0 < price < math.inf):
            return Outcome.INVALID_NUMBER
        if sequence not in self.open:
            return Outcome.NOT_OPEN if 1 <= sequence <= self.sequence else Outcome.UNKNOWN_ORDER
        held = self.open[sequence]
        if filled > held.allowed:
            return Outcome.OVERFILL
        new = filled - held.filled
        if new <= 0:
            return Outcome.REPEATED
        account, symbol = int(held.order.account), int(held.order.symbol)
        self.held[account, symbol] += held.order.side * new
        self.cash[account] -= held.order.side * new * price
        held.filled = filled
        if filled == held.allowed:
            del self.open[sequence]
        self.sequence += 1
        return Outcome.DONE

    def release(self, sequence: int) -> Outcome:
        """Outcome of giving up the rest of an order."""
        if sequence not in self.open:
            return Outcome.NOT_OPEN if 1 <= sequence <= self.sequence else Outcome.UNKNOWN_ORDER
        del self.open[sequence]
        self.sequence += 1
        return Outcome.DONE

    def tick(self, symbol: int, price: float, at_ns: int, now: int) -> Outcome:
        """Outcome of a new last price."""
        if symbol not in range(len(self.prices)) or not 0 < price < math.inf:
            return Outcome.INVALID_NUMBER
        if at_ns > now or at_ns < self.ticked[symbol]:
            return Outcome.OUT_OF_DATE
        self.prices[symbol], self.ticked[symbol] = price, at_ns
        return Outcome.DONE


def sound(order: PlainOrder) -> bool:
    """Whether an order's numbers are some that an order can have."""
    numbers = (order.number, order.account, order.symbol, order.quantity, order.price)
    if not all(math.isfinite(x) for x in numbers) or order.side not in (1, -1) or order.quantity <= 0:
        return False
    priced = order.price > 0 if order.limit else order.price == 0
    return priced and 1 <= order.number <= LARGEST_ID and float(order.number).is_integer()


def multiple(value: float, unit: float) -> bool:
    """Whether ``value`` is a positive multiple of ``unit``, to a millionth of it."""
    return value > 0.5 * unit and abs(round(value / unit) * unit - value) <= TOLERANCE * unit
