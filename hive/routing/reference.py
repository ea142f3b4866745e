"""A role's instances, asked as if they were one agent: every question goes to the instance that the page says.

Fast questions change nothing, so one that died with its instance is put to another within the caller's patience. Each
instance keeps a state of its own: where an optimiser starts from its last answer, two of them agree to its tolerance.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count
from typing import TypeVar

import numpy as np

from cluster.errors import LanesUnavailable, Overloaded, SwarmError, SwarmUnavailable
from cluster.lanes.lane import Lane
from hive.messages.calculation import Role
from hive.messages.fast import FastFacts
from hive.reference import OPEN_S, RETRY_S, Distance, Receive, Reference, deadline
from hive.routing.kernels import ELSEWHERE, MOST_ROWS, NOBODY
from hive.routing.page import CODES, RoutingView
from hive.routing.router import Router

T = TypeVar("T")


@dataclass(frozen=True)
class Leg:
    """One life of one instance, and the way to it."""

    view: RoutingView | None
    """Page that it was chosen from; None where this process has none."""
    row: int
    life: int
    reference: Reference


class Ways:
    """Lanes that are open to rows of one page: whoever is chosen there is asked without a further look."""

    def __init__(self, view: RoutingView) -> None:
        self.view = view
        self._lives: np.ndarray = np.zeros(MOST_ROWS, np.int64)
        self._open: dict[int, tuple[Leg, Lane]] = {}

    def take(self, code: int) -> tuple[Leg, Lane] | None:
        """The instance of a role to ask next, counted; None where its lane is not open, or nobody serves."""
        row = self.view.take(code, self._lives)
        return None if row == NOBODY else self._open[row]

    def enter(self, leg: Leg, lane: Lane) -> None:
        """A leg's lane is open."""
        self._open[leg.row] = leg, lane
        self._lives[leg.row] = leg.life

    def forget(self, leg: Leg) -> None:
        """That life answers no more: neither this way nor, until the page changes, by another choice."""
        self.view.doubt(leg.row, leg.life)
        if self._lives[leg.row] == leg.life:
            self._lives[leg.row] = 0


class RoutedReference:
    """One of a role's instances at a time. Threads may share it; they take turns on each instance's lane.

    A lane is opened to an instance that is chosen for the first time, beside the question where another instance can
    take it meanwhile. Instances of other machines are asked through Ray, when none of this one serves.

    Parameters
    ----------
    router : Router
        This process's hold on the routing page.
    name : callable
        (role, seconds) to the name of an instance: the hub's word, for who cannot have the page.
    wait : "spin", "yield" or "park"
        How this side waits for answers over a lane.
    distance : Distance, optional
        Instead of the nearest that is possible.
    """

    def __init__(
        self,
        role: Role,
        namespace: str,
        router: Router,
        name: Callable[[Role, float], str],
        *,
        wait: str = "park",
        distance: Distance | None = None,
    ) -> None:
        self.role, self.namespace = role, namespace
        self._router, self._name, self._wait, self._asked = router, name, wait, distance
        self._code = CODES[role]
        self._lock = threading.Lock()
        self._legs: dict[int, Leg] = {}
        self._unrouted: Leg | None = None
        self._opening: threading.Thread | None = None
        self._ways: Ways | None = None
        self._counted: dict[int, tuple[RoutingView, int]] = {}
        self._tickets = count()

    @property
    def distance(self) -> Distance:
        """How the next question will probably go."""
        if self._asked is not None:
            return self._asked
        legs = list(self._legs.values()) or ([self._unrouted] if self._unrouted is not None else [])
        return min((leg.reference.distance for leg in legs), key=list(Distance).index, default=Distance.LANE)

    def facts(self, *, fresh: bool = False) -> FastFacts:
        """What must be known to ask, as an instance that serves says; kept from the last time, unless ``fresh``."""
        return self._through(deadline(OPEN_S), lambda reference, _give_up: reference.facts(fresh=fresh))

    def ask(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> np.ndarray:
        """As :meth:`hive.reference.Reference.ask` says; of an instance that dies over the question, another takes it.

        Raises
        ------
        SwarmUnavailable
            No instance served in time.
        """
        give_up = deadline(patience_s)
        ways = self._ways
        taken = ways.take(self._code) if ways is not None and ways.view is self._router.attached else None
        if ways is not None and taken is not None:
            leg, lane = taken
            try:
                return lane.ask(operation, question, patience_s=patience_s, snapshot=snapshot)
            except Overloaded:  # another instance may have room
                pass
            except SwarmUnavailable:
                ways.forget(leg)
            finally:
                ways.view.count(leg.row, -1)

        def attempt(reference: Reference, give_up: float) -> np.ndarray:
            return reference.attempt(operation, question, give_up, snapshot)

        return self._through(give_up, attempt)

    @property
    def ready(self) -> bool:
        """Whether an instance serves, or served just now, that a question can go to at once."""
        view = self._router.attached
        if self._ways is not None and self._ways.view is view:
            return True
        if view is None:
            return self._unrouted is not None and self._unrouted.reference.ready
        row = view.choose(self.role)
        return row != NOBODY and self._ready(view, row).reference.ready

    def send(self, operation: int, question: np.ndarray, *, patience_s: float = 1.0, snapshot: int = 0) -> Receive:
        """As :meth:`hive.reference.Reference.send` says; the answer may come from another instance than was asked.

        Where this was :attr:`ready` and those who serve turn out to be gone, it says so at once.
        """
        give_up = deadline(patience_s)
        ways = self._ways
        taken = ways.take(self._code) if ways is not None and ways.view is self._router.attached else None
        if ways is not None and taken is not None:
            leg, lane = taken
            try:
                number = lane.send(operation, question, patience_s=patience_s, snapshot=snapshot)

                def received(left_s: float) -> np.ndarray:
                    return lane.receive(number, patience_s=left_s)

                return self._awaited(received, leg, operation, question, snapshot)
            except BaseException as error:
                ways.view.count(leg.row, -1)
                if not isinstance(error, (Overloaded, SwarmUnavailable)):
                    raise
                if not isinstance(error, Overloaded):
                    ways.forget(leg)
        held: list[Leg] = []

        def attempt(reference: Reference, _give_up: float) -> Receive:
            left = max(0.0, give_up - time.monotonic())
            return reference.send(operation, question, patience_s=left, snapshot=snapshot)

        receive = self._through(time.monotonic() if self.ready else give_up, attempt, held)
        (leg,) = held
        return self._awaited(receive, leg, operation, question, snapshot)

    def lane(self, patience_s: float = OPEN_S) -> Lane:
        """A lane to the instance that would be asked now, for who counts nanoseconds. What it carries is not counted.

        Raises
        ------
        LanesUnavailable
            No instance of this machine serves, or it has no shared memory.
        """
        return self._through(
            deadline(patience_s), lambda reference, give_up: reference.lane(max(0.0, give_up - time.monotonic()))
        )

    def close(self) -> None:
        """Hang up."""
        with self._lock:
            legs, self._legs, unrouted, self._unrouted = self._legs, {}, self._unrouted, None
            opening = self._opening
        if opening is not None:
            opening.join(OPEN_S)
        self._ways = None
        for ticket in list(self._counted):
            self._uncount(ticket)
        for leg in (*legs.values(), *([unrouted] if unrouted is not None else [])):
            leg.reference.close()

    def _awaited(self, receive: Receive, leg: Leg, operation: int, question: np.ndarray, snapshot: int) -> Receive:
        """The second half of a question that is counted: from another instance where this one dies."""
        ticket = next(self._tickets)
        if leg.view is not None:
            self._counted[ticket] = leg.view, leg.row

        def received(patience_s: float) -> np.ndarray:
            give_up = deadline(patience_s)
            try:
                return receive(patience_s)
            except SwarmUnavailable:
                _doubt(leg)
            finally:
                self._uncount(ticket)
            return self.ask(operation, question, patience_s=max(0.0, give_up - time.monotonic()), snapshot=snapshot)

        return received

    def _through(self, give_up: float, work: Callable[[Reference, float], T], held: list[Leg] | None = None) -> T:
        """Do ``work`` with the instance to be asked, and where that one is gone with another; counted meanwhile.

        With ``held`` it stays counted afterwards, and the leg is put there.
        """
        full: Leg | None = None
        failure: SwarmError | None = None
        while True:
            leg = self._chosen(give_up, full, failure)
            if leg.view is not None:
                leg.view.count(leg.row, 1)
            kept = False
            try:
                result = work(leg.reference, give_up)
                self._enter(leg)
                if held is not None:
                    held.append(leg)
                    kept = True
                return result
            except LanesUnavailable:
                raise
            except Overloaded as error:
                if full is not None:
                    raise
                full, failure = leg, error
            except SwarmUnavailable as error:
                _doubt(leg)
                self._forget(leg)
                failure = error
            finally:
                if leg.view is not None and not kept:
                    leg.view.count(leg.row, -1)

    def _chosen(self, give_up: float, full: Leg | None, failure: SwarmError | None) -> Leg:
        """The instance to ask, waited for while none serves; never the one that is ``full``."""
        while True:
            view = self._router.view(max(0.001, give_up - time.monotonic()))
            if view is None:
                return self._named(give_up, failure)
            avoided = full.row if full is not None and full.view is view else NOBODY
            row = view.choose(self.role, avoided)
            if row != NOBODY:
                return self._ready(view, row)
            if full is not None:
                assert failure is not None
                raise failure
            if time.monotonic() + RETRY_S > give_up:
                because = f" ({failure})" if failure is not None else ""
                raise SwarmUnavailable(f"no {self.role} agent serves{because}", "Run `swarm health`") from failure
            time.sleep(RETRY_S)
            view.believe()

    def _ready(self, view: RoutingView, row: int) -> Leg:
        """The way to a row's instance; to another one's where this one's lane is still to be opened."""
        leg = self._leg(view, row)
        if leg.reference.ready:
            return leg
        other = view.choose(self.role, row)
        if other == NOBODY:
            return leg
        instead = self._leg(view, other)
        if not instead.reference.ready:
            return leg
        with self._lock:
            if self._opening is None or not self._opening.is_alive():
                self._opening = threading.Thread(target=_open, args=(leg.reference,), name="opening", daemon=True)
                self._opening.start()
        return instead

    def _leg(self, view: RoutingView, row: int) -> Leg:
        known = self._legs.get(row)
        if known is not None and known.view is view and known.life == view.life(row):
            return known
        with self._lock:
            route = view.route(row)
            same = (leg for leg in self._legs.values() if _goes_to(leg, route.agent_id, route.life))
            found = next(same, None)
            if found is None:
                far = Distance.CALL if route.place == ELSEWHERE else None
                reference = Reference(route.agent_id, self.namespace, wait=self._wait, distance=self._asked or far)
            else:
                reference = found.reference  # the same life on the next hub's page
            stale = self._legs.get(row)
            leg = self._legs[row] = Leg(view, row, route.life, reference)
            kept = {id(other.reference) for other in self._legs.values()}
        if stale is not None and id(stale.reference) not in kept:
            stale.reference.close()
        return leg

    def _named(self, give_up: float, failure: SwarmError | None) -> Leg:
        """The instance that the hub named, the same until it is gone."""
        leg = self._unrouted
        if leg is None:
            if failure is not None:
                if time.monotonic() + RETRY_S > give_up:
                    raise SwarmUnavailable(
                        f"no {self.role} agent serves ({failure})", "Run `swarm health`"
                    ) from failure
                time.sleep(RETRY_S)
            name = self._name(self.role, max(0.001, give_up - time.monotonic()))
            reference = Reference(name, self.namespace, wait=self._wait, distance=self._asked)
            leg = self._unrouted = Leg(None, NOBODY, 0, reference)
        return leg

    def _forget(self, leg: Leg) -> None:
        if leg.view is None:
            self._unrouted = None
            leg.reference.close()

    def _uncount(self, ticket: int) -> None:
        view, row = self._counted.pop(ticket, (None, NOBODY))
        if view is not None:
            view.count(row, -1)

    def _enter(self, leg: Leg) -> None:
        """Remember an open lane for the next question, which need not look for it then."""
        lane = leg.reference.opened
        if leg.view is None or lane is None:
            return
        ways = self._ways
        if ways is None or ways.view is not leg.view:
            ways = self._ways = Ways(leg.view)
        ways.enter(leg, lane)


def _doubt(leg: Leg) -> None:
    if leg.view is not None:
        leg.view.doubt(leg.row, leg.life)


def _goes_to(leg: Leg, agent_id: str, life: int) -> bool:
    return leg.life == life and leg.reference.agent_id == agent_id


def _open(reference: Reference) -> None:
    """Open a lane beside the questions; whoever is asked next finds out what became of it."""
    with contextlib.suppress(Exception):
        reference.lane(OPEN_S)
