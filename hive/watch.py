"""A client's ear on a watched book: alerts and figures of three agents out of shared memory, without a Ray call.

Ray is asked again only where an agent died or changed its state: what it shares then lies elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections import deque
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import Any

import numpy as np

from cluster import runtime
from cluster.errors import DeadlineExceeded, LaneLost, LanesUnavailable, SwarmError, SwarmUnavailable
from cluster.lanes.broadcast import Rest
from cluster.lanes.page import Page, PageUnreadable
from hive.alerts import Raised, Repeats, Subscription
from hive.figures import LiveFigures, shown
from hive.messages.alert import Alert
from hive.messages.calculation import Role
from hive.messages.fast import Caller
from hive.messages.ticks import Watching

RETRY_S = 0.25  # before an agent that did not answer is asked again
ANSWER_S = 5.0  # how long one answer is waited for
READY_S = 0.001  # to see whether an answer has come


class Watch:
    """The book that a swarm watches, as heard from this process. One thread asks for alerts at a time.

    Parameters
    ----------
    found : mapping of Role to Watching or str
        Where each agent tells about it, or why it does not.
    fresh : bool
        Begin with the oldest alerts that are kept, else with the next ones.

    Raises
    ------
    LanesUnavailable
        The swarm is on another machine.
    """

    def __init__(
        self,
        watch_id: str,
        portfolio: str,
        namespace: str,
        found: Mapping[Role, Watching | str],
        *,
        fresh: bool,
        wait: str = "park",
    ) -> None:
        self.watch_id, self.portfolio = watch_id, portfolio
        self._ears = {role: _Ear(role, namespace, wait) for role in found}
        self._repeats = Repeats()
        self._ready: deque[Raised] = deque()
        self._lock = threading.Lock()
        self._closed = False
        for role, where in found.items():
            if isinstance(where, str):
                self._ears[role].reason = where
            else:
                self._ears[role].take(where, oldest=fresh)

    @property
    def missing(self) -> dict[Role, str]:
        """Agents that cannot be heard now, and why."""
        return {role: ear.reason for role, ear in self._ears.items() if ear.subscription is None}

    @property
    def missed(self) -> int:
        """Alerts that were overwritten before this process came to them."""
        return sum(ear.missed for ear in self._ears.values())

    @property
    def withheld(self) -> int:
        """Alerts that said within 60 seconds what had been said already."""
        return self._repeats.withheld

    def next(self, patience_s: float) -> Raised:
        """The next alert of any agent.

        Raises
        ------
        DeadlineExceeded
            None in time.
        SwarmUnavailable
            Another book is watched now, none is any more, or this watch has been closed.
        """
        give_up = time.monotonic() + patience_s
        while True:
            if not self._ready:
                self._gather()
            if self._ready:
                return self._ready.popleft()
            left_s = give_up - time.monotonic()
            if left_s <= 0:
                raise DeadlineExceeded("no alert in time", "Allow more time")
            subscribed = [ear.subscription for ear in self._ears.values() if ear.subscription is not None]
            Rest([subscription.listener for subscription in subscribed]).sleep(left_s)

    def alerts(self, patience_s: float) -> Iterator[Alert]:
        """Alerts until the time is up, as they come; look at :attr:`missed` for those that did not.

        Raises
        ------
        SwarmUnavailable
            As :meth:`next`.
        """
        give_up = time.monotonic() + patience_s
        while True:
            try:
                found = self.next(max(0.0, give_up - time.monotonic()))
            except DeadlineExceeded:
                return
            yield found.alert
            if time.monotonic() >= give_up:
                return

    def figures(self) -> LiveFigures:
        """The book at the last tick, as far as its agents can be heard.

        Raises
        ------
        SwarmUnavailable
            As :meth:`next`.
        """
        parts: dict[str, Any] = {}
        counts, missing = {}, {}
        with self._lock:
            self._refuse_closed()
            for role, ear in self._ears.items():
                if ear.lost:
                    self._take(ear)  # what is left to hear; then it is asked where it is now
                ear.mend(self.watch_id)
                body = ear.body()
                if body is None:
                    missing[role] = ear.reason
                else:
                    numbers, counts[role] = shown(role, body)
                    parts |= numbers
        return LiveFigures(self.portfolio, **parts, counts=counts, missing=missing)

    def close(self) -> None:
        """Hear no more; the agents go on. Twice does no harm."""
        with self._lock:
            self._closed = True
            self._ready.clear()
            for ear in self._ears.values():
                ear.drop("this watch has been closed")

    def __enter__(self) -> Watch:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _gather(self) -> None:
        """Take what is there from every agent, and look after those that are not."""
        with self._lock:
            self._refuse_closed()
            for ear in self._ears.values():
                ear.mend(self.watch_id)
                self._take(ear)

    def _take(self, ear: _Ear) -> None:
        self._ready.extend(found for found in ear.heard() if self._repeats.new(found.alert))

    def _refuse_closed(self) -> None:
        if self._closed:
            raise SwarmUnavailable("this watch has been closed", "Watch the book again")


class _Ear:
    """One agent's board and page, and the question after new ones."""

    def __init__(self, role: Role, namespace: str, wait: str) -> None:
        self.role, self._namespace, self._wait = role, namespace, wait
        self.subscription: Subscription | None = None
        self.reason = "not asked yet"
        self._page: Page | None = None
        self._missed_before = 0
        self._asked: Any = None
        self._asked_at = self._again_at = 0.0

    @property
    def lost(self) -> bool:
        """Whether nothing new will come from there."""
        return self.subscription is not None and self.subscription.listener.lost

    @property
    def missed(self) -> int:
        return self._missed_before + (self.subscription.missed if self.subscription is not None else 0)

    def take(self, where: Watching, *, oldest: bool) -> None:
        """Listen there from now on."""
        try:
            self.subscription = Subscription(
                where.board, subject=where.subject, symbols=where.symbols, wait=self._wait, oldest=oldest
            )
            self._page = Page.attach(where.page)
        except LaneLost as error:
            self.drop(str(error))

    def heard(self) -> list[Raised]:
        """What the agent has raised since."""
        if self.subscription is None:
            return []
        try:
            return self.subscription.poll()
        except LaneLost as error:
            self.drop(str(error))
            return []

    def body(self) -> np.ndarray | None:
        """The page's body, int64; None where the agent cannot be heard."""
        if self.subscription is None or self._page is None:
            return None
        if self.lost:
            self.reason = "it has just ended"
            return None
        try:
            return self._page.read().view(np.int64)
        except PageUnreadable as error:
            self.reason = str(error)
            return None

    def drop(self, reason: str) -> None:
        """Listen no more."""
        self.reason = reason
        self._missed_before = self.missed
        if self.subscription is not None:
            self.subscription.close()
        if self._page is not None:
            self._page.close()
        self.subscription = self._page = None

    def mend(self, watch_id: str) -> None:
        """Ask an agent that cannot be heard where it is now; never waits for the answer.

        Raises
        ------
        SwarmUnavailable
            It watches another book.
        """
        if self.subscription is not None:
            return
        now = time.monotonic()
        if self._asked is None:
            if now < self._again_at:
                return
            self._again_at = now + RETRY_S
            with contextlib.suppress(SwarmUnavailable, runtime.ActorUnreachable, runtime.QueueFull):
                actor = runtime.find_actor(self.role.value, self._namespace)
                self._asked, self._asked_at = actor.watching.remote(Caller.here(self._wait)), now
            return
        try:
            where: Watching = runtime.wait_for(self._asked, READY_S)
        except DeadlineExceeded:
            if now - self._asked_at > ANSWER_S:
                self._asked = None
            return
        except LanesUnavailable:
            raise
        except (SwarmError, runtime.ActorUnreachable) as error:
            self._asked, self.reason = None, str(error).splitlines()[0]
            return
        self._asked = None
        if where.watch_id != watch_id:
            raise SwarmUnavailable(f"another book, {where.subject!r}, is watched now", "Watch yours again")
        self.take(where, oldest=True)
