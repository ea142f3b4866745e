"""Whom a client of the committee asks, and how long it waits before it asks others too.

Seats are found by their names, and a name is no proof: of those that are found, as many as exceed the voters may be
anybody's. What they answer is judged elsewhere; here it only matters who answers, how soon, and who leads.
"""

from __future__ import annotations

import contextlib
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import Any

from cluster import runtime
from cluster.errors import SwarmUnavailable
from consensus.errors import NoQuorum
from consensus.seats import seat_of
from consensus.simplex.types import Committee

HEDGE_S = 0.02  # how long few replicas may at least take to begin to answer before all are asked
MOST_HEDGE_S = 0.25  # and at most, though they usually take half as long or longer
HEDGE_TIMES = 2  # as long as usual, until all are asked
FAILED_TIMES = 4  # where a view must fail first
HEDGE_EACH_S = 0.01  # longer for each motion of a batch but the first: many take long, whoever is asked
HEDGE_SHARE = 0.25  # of the time that is left
USUAL = 16  # answers of a kind that say how long one usually takes


class Reach:
    """The seats that a client can reach.

    Parameters
    ----------
    present : callable
        The committee of the last epoch that was proved to the client.
    """

    def __init__(self, namespace: str, present: Callable[[], Committee]) -> None:
        self._namespace, self._present = namespace, present
        self._handles: dict[int, Any] = {}
        self._quick: list[int] = []
        """Seats whose voters gave ballots, who answered last first."""
        self.carrier: int | None = None
        """Seat that gave its ballot and leads, as more than f said who gave theirs: it alone is asked for decisions at
        first. Where the leader gave none, who leads next, and the view that fails before is waited for."""
        self.patience = HEDGE_TIMES
        """In how many times the usual time others are asked for decisions too."""
        self.next_leader: int | None = None
        """Seat that leads after it, as they said: its ballot on the next motion is asked for, to see if it lives."""
        self._owed: dict[int, Any] = {}
        """The last call that a seat did not answer while it was of use: until it does, it is asked last."""
        self._usual: dict[tuple[str, int], deque[float]] = {}
        """How long those who were asked first took to answer, seconds, by method and about how many motions it was."""

    def seats(self) -> set[int]:
        """Numbers of those that are known."""
        self._look()
        return set(self._handles)

    def strange(self) -> int:
        """How many more are known than vote."""
        return max(0, len(self.seats()) - len(self._present().keys))

    def doubted(self) -> int:
        """How many may say what is not so: those of faulty voters, and those that can be no voter's."""
        return self._present().faults + self.strange()

    def forget(self) -> None:
        """Look for all of them anew: they may live elsewhere."""
        self._handles = {}

    def gave_ballots(self, seat: int, leaders: dict[int, tuple[Any, Any]]) -> None:
        """Hear that a seat has just given ballots, and who leads now and next, as each that gave any says."""
        self._quick = [seat, *(other for other in self._quick if other != seat)]
        faults = self._present().faults
        now, then = (_said_by_more(faults, seats) for seats in zip(*leaders.values(), strict=True))
        self.carrier = now if now in leaders else then if now is not None and then in leaders else None
        self.patience = HEDGE_TIMES if self.carrier == now else FAILED_TIMES
        self.next_leader = then

    def all(self, method: str, *arguments: Any, count: int | None = None, within_s: float) -> dict[int, Any]:
        """Answers of all that give one in time, or of the first ``count``, by seat.

        Raises
        ------
        NoQuorum
            None can be reached.
        """
        self._look()
        calls = self._asked(method, *arguments, seats=list(self._handles))
        if not calls:
            raise NoQuorum("no replica of the committee can be reached", "Run `swarm up` with consensus.voters set")
        runtime.first_of(list(calls), len(calls) if count is None else count, within_s)
        answers = {seat: _value(call) for call, seat in calls.items()}
        return {seat: answer for seat, answer in answers.items() if answer is not None}

    def hedged(
        self,
        method: str,
        *arguments: Any,
        asking: int | None,
        until_ns: int,
        first: int | None = None,
        many: int = 1,
        times: float = HEDGE_TIMES,
    ) -> Iterator[tuple[int, Any]]:
        """(seat, answer) of seats as they come, until a moment of UTC.

        So many are asked at first, ``first`` and those that answered last; the others too as soon as one fails, what
        came did not suffice, nobody has answered in so many ``times`` the usual time, which is bounded, or those that
        are left take twice as long as the first to answer. ``many`` is the number of motions that are asked about.
        """
        begun_ns = time.time_ns()
        self._look()
        if self._owed:
            _, owed = runtime.first_of(list(self._owed.values()), len(self._owed), 0.0)
            self._owed = {seat: call for seat, call in self._owed.items() if call in owed}
        seats = [seat for seat in self._quick if seat in self._handles]
        seats += [seat for seat in self._handles if seat not in seats]
        seats.sort(key=lambda seat: (seat in self._owed, seat != first))
        few = len(seats) if asking is None else asking
        usual = self._usual.setdefault((method, many.bit_length()), deque(maxlen=USUAL))
        pending, rest = self._asked(method, *arguments, seats=seats[:few]), seats[few:]
        hedge_s = min(max(HEDGE_S, times * median(usual or [0.0])), MOST_HEDGE_S) + (many - 1) * HEDGE_EACH_S
        hedge_ns = begun_ns + min(int(hedge_s * 1e9), int(HEDGE_SHARE * (until_ns - begun_ns)))
        unanswered = bool(rest)
        try:
            while pending or rest:
                if rest and (not pending or time.time_ns() >= hedge_ns):
                    pending |= self._asked(method, *arguments, seats=rest)
                    rest = []
                    continue
                until = min(until_ns, hedge_ns) if rest else until_ns
                done, _ = runtime.first_of(list(pending), 1, (until - time.time_ns()) / 1e9)
                if not done and time.time_ns() >= until_ns:
                    return
                for call in done:
                    seat, answer = pending.pop(call), _value(call)
                    if answer is None:
                        hedge_ns = 0
                    else:
                        hedge_ns = min(hedge_ns, 2 * time.time_ns() - begun_ns)
                        if unanswered and seat in seats[:few]:  # others answer because these take long
                            usual.append((time.time_ns() - begun_ns) / 1e9)
                            unanswered = False
                        yield seat, answer
        finally:
            self._owed |= {seat: call for call, seat in pending.items()}

    def _asked(self, method: str, *arguments: Any, seats: Iterable[int]) -> dict[Any, int]:
        """Calls of these seats, by whom they are to; none of those that cannot be reached."""
        calls: dict[Any, int] = {}
        for seat in seats:
            with contextlib.suppress(Exception):  # whatever sits there: the others' answers count
                calls[getattr(self._handles[seat], method).remote(*arguments)] = seat
        return calls

    def _look(self) -> None:
        """Find who lives and is not known yet, where voters may be missing."""
        if len(self._handles) >= len(self._present().keys):
            return
        for name in runtime.named_actors(self._namespace):
            seat = seat_of(name)
            if seat is not None and seat not in self._handles:
                with contextlib.suppress(SwarmUnavailable):
                    self._handles[seat] = runtime.find_actor(name, self._namespace)


def _said_by_more(few: int, seats: Iterable[Any]) -> int | None:
    """Seat that more than so many have named, if one is."""
    named = [seat for seat in seats if type(seat) is int]
    return next((seat for seat in named if named.count(seat) > few), None)


def _value(call: Any) -> Any:
    """What a call brought; None where the replica died, refused as a whole or did not answer."""
    try:
        return runtime.wait_for(call, 0.0)
    except Exception:  # a faulty replica may raise anything; the others' answers count
        return None
