"""The routing page: which instances serve, how busy they are, and whom to ask next, without asking the hub.

The hub writes the page when the registry changes and when a process ends; whoever asks in numbers reads it from shared
memory. :mod:`hive.routing.kernels` says how it is laid out and how loads are kept.
"""

from __future__ import annotations

import hashlib
import os
import secrets
import zlib
from collections.abc import Container, Iterable
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from cluster import topology
from cluster.errors import LaneLost, Overloaded
from cluster.lanes import page
from cluster.lanes.memory import SharedWords
from cluster.lanes.peer import Peer, started
from hive.messages.calculation import Role
from hive.messages.codec import message
from hive.messages.fast import Caller
from hive.routing import kernels
from hive.routing.kernels import ELSEWHERE, MOST_CALLERS, MOST_ROWS, NOBODY, SOMEWHERE

ROLES = tuple(Role)
CODES = {role: code for code, role in enumerate(ROLES, 1)}
LAYOUT = kernels.VERSION << 32 | zlib.crc32(",".join(ROLES).encode())  # both sides must mean the same by a code
LIFE_BYTES = 7


@dataclass(frozen=True)
class Route:
    """One instance as the page shows it."""

    role: Role
    number: int
    """1 for the instance that carries the role's name."""
    serving: bool
    passed_over: bool
    """Whether it keeps failing: asked only where nobody else can be."""
    place: int
    """NUMA node, ``SOMEWHERE`` on this machine, or ``ELSEWHERE``."""
    pid: int
    started: int
    """Start time of its process, clock ticks since boot."""
    life: int
    """Another one for every life of the instance."""

    @property
    def agent_id(self) -> str:
        """Its name in Ray."""
        return instance_id(self.role, self.number)


@message
class RoutingAddress:
    """Where a page is, and the caller's column in it."""

    pid: int
    """Of the hub."""
    started: int
    descriptor: int
    identity: int
    column: int
    """-1 where all are taken: the caller's own questions are not counted then."""


class RoutingPage:
    """The hub's side. One thread writes.

    Raises
    ------
    LanesUnavailable
        The system gives no shared memory.
    """

    def __init__(self) -> None:
        self._memory = SharedWords.create("riskswarm-routing", kernels.WORDS)
        self._pid, self._started = os.getpid(), started(os.getpid())
        words = self._memory.words
        words[kernels.IDENTITY], words[kernels.LAYOUT] = secrets.randbits(62) + 1, LAYOUT
        self._rows: list[str] = []
        self._shown = np.zeros(kernels.BODY, np.int64)
        self._callers: dict[int, Caller] = {}
        self._own = self._column()
        page.write(words, kernels.PAGE_AT, self._shown)

    def show(self, routes: Iterable[Route]) -> None:
        """Write these instances where they are not what is shown already.

        A row stays an instance's while there are others for who is new.

        Raises
        ------
        Overloaded
            More instances than a page has rows; those that have one are shown.
        """
        body = np.zeros(kernels.BODY, np.int64)
        left_out = ""
        named = {route.agent_id: route for route in routes}
        for route in named.values():
            row = self._row(route.agent_id, named)
            if row == NOBODY:
                left_out = route.agent_id
                continue
            at = kernels.ROW * (1 + row)
            body[at : at + kernels.ROW] = (
                CODES[route.role],
                route.number,
                route.serving,
                route.passed_over,
                route.place,
                route.pid,
                route.started,
                route.life,
            )
        body[0] = len(self._rows)
        if not np.array_equal(body, self._shown):
            page.write(self._memory.words, kernels.PAGE_AT, body)
            self._shown = body
        if left_out:
            raise Overloaded(
                f"the routing page holds {MOST_ROWS} instances and has no row for {left_out}",
                "Lower `agents.instances`; it is asked by name meanwhile",
            )

    def admit(self, caller: Caller) -> RoutingAddress:
        """The page's address for a process of this machine, which has one column however often it asks."""
        words = self._memory.words
        known = (column for column, other in self._callers.items() if _same(other, caller))
        column = next(known, NOBODY)
        if column == NOBODY:
            column = self._column()
            if column != NOBODY:
                self._callers[column] = caller
        identity = int(words[kernels.IDENTITY])
        return RoutingAddress(self._pid, self._started, self._memory.descriptor, identity, column)

    def dismiss(self, caller: Caller) -> None:
        """A process has ended: nothing that it counted counts any more."""
        for column, other in list(self._callers.items()):
            if _same(other, caller):
                cells = self._memory.words[kernels.CELLS :].reshape(MOST_ROWS, MOST_CALLERS)
                cells[:, column] = 0
                del self._callers[column]

    def occupy(self, agent_id: str, questions: int) -> None:
        """Count what the hub itself waits for at an instance: calculations are load as well."""
        row = self._rows.index(agent_id) if agent_id in self._rows else NOBODY
        if row != NOBODY:
            self._memory.words[kernels.CELLS + row * MOST_CALLERS + self._own] = questions

    def close(self) -> None:
        """Let go of the memory; callers keep what they have mapped."""
        self._memory.close()

    def _row(self, agent_id: str, present: Container[str]) -> int:
        if agent_id in self._rows:
            return self._rows.index(agent_id)
        if len(self._rows) < MOST_ROWS:
            self._rows.append(agent_id)
            return len(self._rows) - 1
        row = next((row for row, other in enumerate(self._rows) if other not in present), NOBODY)
        if row != NOBODY:
            self._rows[row] = agent_id
        return row

    def _column(self) -> int:
        column = next((place for place in range(1, MOST_CALLERS) if place not in self._callers), NOBODY)
        words = self._memory.words
        if not words[kernels.COLUMNS]:
            column = 0  # the first is the hub's own
        words[kernels.COLUMNS] = max(int(words[kernels.COLUMNS]), column + 1)
        return column


class RoutingView:
    """A caller's side: the page as this process sees it, and its own counts on it. Threads may share it.

    Raises
    ------
    LaneLost
        The page is gone, or what lies there is not a page that this process understands.
    """

    def __init__(self, address: RoutingAddress) -> None:
        try:
            self.hub = Peer(address.pid, address.started)
        except OSError as error:
            raise LaneLost(f"the hub's process {address.pid} has ended", "Ask again") from error
        try:
            self._memory = SharedWords.attach(address.pid, address.descriptor, kernels.WORDS)
            words = self._memory.words
            if int(words[kernels.IDENTITY]) != address.identity or int(words[kernels.LAYOUT]) != LAYOUT:
                self._memory.close()
                raise LaneLost(
                    "that memory is no routing page of this version", "Use the same version of Riskswarm on both sides"
                )
        except BaseException:
            self.hub.close()
            raise
        self.address = address
        self._words = words
        self._copies = np.zeros((2, kernels.BODY), np.int64)
        self._state = np.zeros(kernels.STATE, np.int64)
        self._state[kernels.RANDOM] = 1 + secrets.randbelow(2**32 - 1)
        self._state[kernels.COLUMN], self._state[kernels.NODE] = address.column, own_node()
        kernels.renew(self._words, self._copies, self._state)

    def choose(self, role: Role, avoided: int = NOBODY) -> int:
        """Row of the instance to ask next, ``NOBODY`` where none serves; never the row ``avoided``."""
        return int(kernels.choose(self._words, self._copies, self._state, CODES[role], avoided))

    def take(self, code: int, lives: np.ndarray) -> int:
        """Row of the instance to ask next, counted, where ``lives`` says that the way to it is open; else ``NOBODY``.

        ``code`` is the role's, of ``CODES``; ``lives`` are int64 (MOST_ROWS,).
        """
        row: int = kernels.take(self._words, self._copies, self._state, code, lives)
        return row

    def count(self, row: int, change: int) -> None:
        """Add to the questions of this process that wait at a row's instance."""
        kernels.count(self._words, self._state, row, change)

    def life(self, row: int) -> int:
        """Which life of its instance a row shows."""
        return int(self._copies[0, kernels.ROW * (1 + row) + kernels.LIFE])

    def route(self, row: int) -> Route:
        """A row in words."""
        at = kernels.ROW * (1 + row)
        code, number, serving, passed_over, *rest = self._copies[0, at : at + kernels.ROW].tolist()
        return Route(ROLES[code - 1], number, bool(serving), bool(passed_over), *rest)

    def routes(self) -> tuple[tuple[Route, int], ...]:
        """Every instance of the page as it is now, with its load."""
        kernels.renew(self._words, self._copies, self._state)
        rows = range(min(int(self._copies[0, 0]), MOST_ROWS))
        shown = (row for row in rows if self._copies[0, kernels.ROW * (1 + row) + kernels.ROLE])
        return tuple((self.route(row), int(kernels.load(self._words, row))) for row in shown)

    def doubt(self, row: int, life: int) -> None:
        """Do not choose this life of an instance until the page changes: it did not answer."""
        at = kernels.ROW * (1 + row)
        if int(self._copies[0, at + kernels.LIFE]) == life:
            self._copies[0, at + kernels.SERVING] = 0

    def believe(self) -> None:
        """Take the page's word again for those that were doubted."""
        self._state[kernels.SEEN] = 0
        kernels.renew(self._words, self._copies, self._state)

    def close(self) -> None:
        """Forget the hub's process and its memory."""
        self.hub.close()
        self._memory.close()


def instance_id(role: Role, number: int) -> str:
    """Name of an instance in Ray: the role's for the first, with ``-2``, ``-3``... for others."""
    return role.value if number == 1 else f"{role.value}-{number}"


def number_of(role: Role, agent_id: str) -> int | None:
    """The inverse of :func:`instance_id`; None for a name of another kind."""
    if agent_id == role.value:
        return 1
    digits = agent_id.removeprefix(f"{role.value}-")
    number = int(digits) if digits.isdecimal() and len(digits) < 10 else 0
    return number if number > 1 and agent_id == instance_id(role, number) else None


def life_of(incarnation: str) -> int:
    """A life's name as a positive number."""
    return int.from_bytes(hashlib.blake2b(incarnation.encode(), digest_size=LIFE_BYTES).digest())


@lru_cache(maxsize=1)
def own_node() -> int:
    """NUMA node of all cores that this process may use; ``SOMEWHERE`` where they span several."""
    nodes = [node.number for node in topology.discover().nodes if node.cores]
    return nodes[0] if len(nodes) == 1 else SOMEWHERE


def place_of(*, here: bool, node: int | None) -> int:
    """Where an instance is, in a word."""
    if not here:
        return ELSEWHERE
    return SOMEWHERE if node is None else node


def _same(one: Caller, other: Caller) -> bool:
    return (one.pid, one.started) == (other.pid, other.started)
