"""Alerts as compiled loops raise them, and as people read them.

A compiled loop has no words to say: it writes a record of eight words of eight bytes into a broadcast ring when a limit
is crossed. Whoever listens makes :class:`hive.messages.alert.Alert` of it.
"""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from cluster.errors import DeadlineExceeded, LaneLost
from cluster.lanes.addresses import BroadcastAddress
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.memory import AGAIN
from hive.messages.alert import Alert, AlertKind, Priority
from hive.messages.calculation import Role

# Words of a record. VALUE and BOUND are float64; PLACE is the symbol whose tick it was, or NOWHERE.
KIND, LIMIT, PLACE, VALUE, BOUND, TICK_NS, RAISED_NS, FLAGS = range(8)
ALERT_WORDS = 8
NOWHERE = -1
STATE_INCOMPLETE = 1  # flag: ticks were missed before, so the figure may be off

# Kinds, and the limits of each by their codes.
LIMIT_BREACH, LIQUIDITY_STRESS, CORRELATION_CHANGE, STALE_DATA = range(4)
LIMITS = (("var", "drawdown", "leverage", "concentration"), ("index", "days"), ("risen", "fallen"), ("vanished",))
KINDS = (
    (AlertKind.LIMIT_BREACH, Priority.CRITICAL, Role.VALUE_AT_RISK),
    (AlertKind.LIQUIDITY_STRESS, Priority.CRITICAL, Role.LIQUIDITY),
    (AlertKind.CORRELATION_REGIME_CHANGE, Priority.MEDIUM, Role.CORRELATION),
    (AlertKind.STALE_DATA, Priority.CRITICAL, Role.MARKET_DATA),
)
"""Message kind, priority (requirements B11) and role that raises it, by the record's kind."""
TITLES = {
    "var": "VaR of {subject} is {value:.2%} of its value, beyond its limit of {limit:.2%}",
    "drawdown": "drawdown of {subject} is {value:.2%}, beyond its limit of {limit:.2%}",
    "leverage": "leverage of {subject} is {value:.2f}, beyond its limit of {limit:.2f}",
    "concentration": "concentration of {subject} is {value:.2%}, beyond its limit of {limit:.2%}",
    "index": "liquidity stress index of {subject} is {value:.2f}, beyond {limit:.2f}",
    "days": "the slowest position of {subject} takes {value:.1f} days to sell, beyond {limit:.1f}",
    "risen": "correlation in {subject} has risen: the change statistic is {value:.2f}, beyond {limit:.2f}",
    "fallen": "correlation in {subject} has fallen: the change statistic is {value:.2f}, beyond {limit:.2f}",
    "vanished": "{subject} is watched no more: the market data lacks {value:.0f} of its symbols",
}
DEDUP_NS = 60 * 10**9
MOST_KEYS = 1024
KEPT = 1024  # records; an alert is raised at a crossing, not at every tick beyond


@dataclass(frozen=True)
class Raised:
    """One alert, and how it came about."""

    alert: Alert
    symbol: str | None
    """Whose tick crossed the limit; None where that is nobody's alone."""
    raised_ns: int
    """Monotonic clock of this machine."""
    incomplete: bool
    """Ticks had been missed before and the state was not refreshed since."""


def record(kind: int, limit: int, *, value: float, bound: float, tick_ns: int) -> np.ndarray:
    """A record of nobody's tick alone, shape (8,), for what a compiled loop does not find."""
    found = np.zeros(ALERT_WORDS, np.int64)
    found[[KIND, LIMIT, PLACE, TICK_NS, RAISED_NS]] = kind, limit, NOWHERE, tick_ns, time.monotonic_ns()
    found.view(np.float64)[[VALUE, BOUND]] = value, bound
    return found


def board(slots: int = KEPT) -> Broadcaster:
    """A broadcast ring for the alerts of one book by one agent."""
    return Broadcaster(slots=slots, payload_words=ALERT_WORDS)


def raised(words: np.ndarray, *, subject: str, symbols: tuple[str, ...]) -> Raised:
    """What the words of a record, shape (8,), say of the portfolio ``subject``. The alert's time is the tick's.

    Raises
    ------
    LaneLost
        Its codes are unknown here: the writer speaks another layout.
    """
    kind, limit, place = int(words[KIND]), int(words[LIMIT]), int(words[PLACE])
    known = 0 <= kind < len(KINDS) and 0 <= limit < len(LIMITS[kind]) and NOWHERE <= place < len(symbols)
    if not known:
        raise LaneLost(f"an alert of kind {kind}, limit {limit} and symbol {place} is unknown here", AGAIN)
    what, priority, role = KINDS[kind]
    name = LIMITS[kind][limit]
    value, bound = (float(number) for number in words[[VALUE, BOUND]].view(np.float64))
    alert = Alert(
        kind=what,
        priority=priority,
        source=role.value,
        subject=subject,
        message=TITLES[name].format(subject=subject, value=value, limit=bound),
        dedup_key=f"{what}:{subject}:{name}",
        ts_ns=int(words[TICK_NS]),
        value=value,
        limit=bound,
    )
    symbol = None if place == NOWHERE else symbols[place]
    return Raised(alert, symbol, int(words[RAISED_NS]), bool(words[FLAGS] & STATE_INCOMPLETE))


class Repeats:
    """Keeps alerts apart that say the same thing: one of a key in 60 seconds of the alerts' own time (B11).

    At most ``MOST_KEYS`` keys are remembered, those that were let through last.
    """

    def __init__(self) -> None:
        self._last_ns: OrderedDict[str, int] = OrderedDict()
        self.withheld = 0
        """Alerts that said again what was said already."""

    def new(self, alert: Alert) -> bool:
        """Whether this one is to be shown. Time that runs backwards, in another replay, begins anew."""
        last_ns = self._last_ns.get(alert.dedup_key)
        if last_ns is not None and abs(alert.ts_ns - last_ns) < DEDUP_NS:
            self.withheld += 1
            return False
        self._last_ns[alert.dedup_key] = alert.ts_ns
        self._last_ns.move_to_end(alert.dedup_key)
        if len(self._last_ns) > MOST_KEYS:
            self._last_ns.popitem(last=False)
        return True


class Subscription:
    """A client's ear on the alerts of one book by one agent.

    Parameters
    ----------
    subject : str
        Portfolio that the agent watches.
    symbols : tuple of str
        Of the snapshot, in its order.
    wait : str
        ``spin``, ``yield`` or ``park``.
    oldest : bool
        Begin with the oldest alert that is kept, else with the next one.

    Raises
    ------
    LaneLost
        The agent has died since the address was made.
    """

    def __init__(
        self,
        address: BroadcastAddress,
        *,
        subject: str,
        symbols: tuple[str, ...],
        wait: str = "park",
        oldest: bool = False,
    ) -> None:
        self.subject, self.symbols = subject, symbols
        self._listener = Listener(address, wait, oldest=oldest)
        self._waiting: list[np.ndarray] = []

    @property
    def missed(self) -> int:
        """Alerts that were overwritten before this subscription came to them."""
        return self._listener.missed

    def next(self, patience_s: float) -> Raised:
        """The next alert.

        Raises
        ------
        DeadlineExceeded
            None in time.
        LaneLost
            The agent died or closed the board, and nothing is left to hear.
        """
        if not self._waiting:
            self._waiting = list(self._listener.wait(patience_s).messages[::-1])
        return raised(self._waiting.pop(), subject=self.subject, symbols=self.symbols)

    @property
    def listener(self) -> Listener:
        """What hears."""
        return self._listener

    def poll(self) -> list[Raised]:
        """Alerts that are there now.

        Raises
        ------
        LaneLost
            As :meth:`next`.
        """
        waiting, self._waiting = self._waiting[::-1], []
        records = waiting or self._listener.poll().messages
        return [raised(words, subject=self.subject, symbols=self.symbols) for words in records]

    def within(self, patience_s: float) -> Iterator[Raised]:
        """Alerts until the time is up, as they come; look at :attr:`missed` for those that did not.

        Raises
        ------
        LaneLost
            As :meth:`next`.
        """
        give_up_ns = time.monotonic_ns() + int(patience_s * 1e9)
        left_s = patience_s
        while left_s > 0 or self._waiting:
            try:
                found = self.next(max(0.0, left_s))
            except DeadlineExceeded:
                return
            yield found
            left_s = (give_up_ns - time.monotonic_ns()) / 1e9

    def close(self) -> None:
        """Stop listening."""
        self._listener.close()

    def __enter__(self) -> Subscription:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
