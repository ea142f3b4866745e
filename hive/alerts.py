"""Alerts as compiled loops raise them, and as people read them.

A compiled loop has no words to say: it writes a record of eight words of eight bytes into a broadcast ring when a limit
is crossed. Whoever listens makes :class:`hive.messages.alert.Alert` of it.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType

import numpy as np

from cluster.errors import DeadlineExceeded, LaneLost
from cluster.lanes.broadcast import BroadcastAddress, Broadcaster, Listener
from cluster.lanes.memory import AGAIN
from hive.messages.alert import Alert, AlertKind, Priority
from hive.messages.calculation import Role

# Words of a record. VALUE and BOUND are float64; PLACE is the symbol whose tick it was, or NOWHERE.
KIND, LIMIT, PLACE, VALUE, BOUND, TICK_NS, RAISED_NS, FLAGS = range(8)
ALERT_WORDS = 8
NOWHERE = -1
STATE_INCOMPLETE = 1  # flag: ticks were missed before, so the figure may be off

# Kinds, and the limits of each by their codes.
LIMIT_BREACH, LIQUIDITY_STRESS, CORRELATION_CHANGE = range(3)
LIMITS = (("var", "drawdown", "leverage", "concentration"), ("index", "days"), ("risen", "fallen"))
KINDS = (
    (AlertKind.LIMIT_BREACH, Priority.CRITICAL, Role.VALUE_AT_RISK),
    (AlertKind.LIQUIDITY_STRESS, Priority.CRITICAL, Role.LIQUIDITY),
    (AlertKind.CORRELATION_REGIME_CHANGE, Priority.MEDIUM, Role.CORRELATION),
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
}
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


def board(slots: int = KEPT) -> Broadcaster:
    """A broadcast ring for the alerts of one book by one agent."""
    return Broadcaster(slots=slots, payload_words=ALERT_WORDS)


def raised(record: np.ndarray, *, subject: str, symbols: tuple[str, ...]) -> Raised:
    """What a record of shape (8,) says of the portfolio ``subject``. The alert's time is the tick's.

    Raises
    ------
    LaneLost
        Its codes are unknown here: the writer speaks another layout.
    """
    kind, limit, place = int(record[KIND]), int(record[LIMIT]), int(record[PLACE])
    known = 0 <= kind < len(KINDS) and 0 <= limit < len(LIMITS[kind]) and NOWHERE <= place < len(symbols)
    if not known:
        raise LaneLost(f"an alert of kind {kind}, limit {limit} and symbol {place} is unknown here", AGAIN)
    what, priority, role = KINDS[kind]
    name = LIMITS[kind][limit]
    value, bound = (float(number) for number in record[[VALUE, BOUND]].view(np.float64))
    alert = Alert(
        kind=what,
        priority=priority,
        source=role.value,
        subject=subject,
        message=TITLES[name].format(subject=subject, value=value, limit=bound),
        dedup_key=f"{what}:{subject}:{name}",
        ts_ns=int(record[TICK_NS]),
        value=value,
        limit=bound,
    )
    symbol = None if place == NOWHERE else symbols[place]
    return Raised(alert, symbol, int(record[RAISED_NS]), bool(record[FLAGS] & STATE_INCOMPLETE))


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
