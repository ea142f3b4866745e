"""The pre-trade gate as an agent of the swarm: it finds its market, restores its state, and serves.

A gate must answer when it is asked, so its kernels are loaded before it says HEALTHY, not when the first order comes.
"""

from __future__ import annotations

import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from actors.agent import Agent, Identity
from actors.lanes import AUTO, PARK
from actors.pinned import take_seat
from actors.settings import ShellSettings
from actors.trading.gate.history import JOURNAL
from actors.trading.gate.settings import GateSettings
from cluster import runtime, topology
from cluster.errors import InvalidInput, LaneLost, LanesUnavailable, SwarmError, SwarmUnavailable, UnknownSnapshot
from cluster.lanes.settings import LaneSettings
from consensus.committee import CommitteeClient
from consensus.errors import NoQuorum
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Role
from hive.messages.fast import Caller, boot_id
from hive.messages.gate import GateFacts, GateStatus, Instruction
from hive.messages.health import SERVING, AgentState
from hive.messages.ticks import TickStream

if TYPE_CHECKING:
    from actors.trading.gate.book import Book
    from actors.trading.gate.gate import Gate
    from actors.trading.gate.intake import TickIntake
    from cluster.lanes.addresses import LaneAddress
    from cluster.lanes.port import PortStatus
    from consensus.simplex.types import Committee

LEARN_S = 2.0  # between looks at which epochs the committee has come to
FETCH_TIMEOUT_S = 30.0


class GateAgent(Agent):
    """The gate in a process of its own, pinned where the machine has a core for it.

    Parameters
    ----------
    book : Book
        Accounts and instruments.
    directory : str
        Where its journal and its kill switch lie.
    committee : str
        File of the first committee's public keys; it may come after the gate.
    """

    role: ClassVar[Role] = Role.GATE

    def __init__(
        self,
        identity: Identity,
        shell: ShellSettings,
        settings: GateSettings,
        lanes: LaneSettings,
        book: Book,
        directory: str,
        committee: str,
    ) -> None:
        granted = topology.node_of(runtime.granted_resources())
        self.seat = take_seat(identity.agent_id, shell, granted)  # before anything is allocated that should lie near
        self._settings, self._book_of_accounts, self._directory = settings, book, Path(directory)
        self._committee = Path(committee)
        self._strategy = ("spin" if self.seat.own else PARK) if lanes.wait == AUTO else lanes.wait
        self._gate: Gate | None = None
        self._intake: TickIntake | None = None
        self._electors: CommitteeClient | None = None
        self._changing = threading.Lock()
        super().__init__(identity, shell)

    def initialise(self) -> None:
        """Restore what the journal knows, on the current snapshot."""
        from actors.trading.gate.gate import Gate  # with Numba, on this thread: the shell answers pings meanwhile

        snapshot_id, snapshot = self._market(None)
        symbols, covariance, prices = self._facts_of(snapshot)
        with self._changing:
            if self._gate is not None:
                return
            self._directory.mkdir(parents=True, exist_ok=True, mode=0o700)
            gate = Gate(
                settings=self._settings,
                instruments=self._book_of_accounts.instruments(symbols),
                accounts=self._book_of_accounts.accounts,
                covariance=covariance,
                prices=prices,
                journal=self._directory / JOURNAL,
                strategy=self._strategy,
                committee=self._committee,
            )
            gate.snapshot_id = snapshot_id
            self._learn(gate, ask=False)  # before anybody can instruct it
            self._gate = gate
            threading.Thread(target=self._follow_committee, args=(gate,), name="gate-epochs", daemon=True).start()
        current = self.ask(Role.MARKET_DATA, lambda market: market.header.remote(None, None), FETCH_TIMEOUT_S)
        if current.snapshot_id != snapshot_id:  # it changed while there was no gate to be told
            self.prepare(current.snapshot_id)
        if self.ask(Role.MARKET_DATA, lambda market: market.ticks.remote(), FETCH_TIMEOUT_S).source is not None:
            self.follow_ticks(self.ask(Role.MARKET_DATA, lambda market: market.tick_stream.remote(), FETCH_TIMEOUT_S))

    @runtime.answered_in("control")
    def open_gate(self, caller: Caller) -> tuple[LaneAddress, GateFacts]:
        """A lane to the gate for a process of the same machine.

        Raises
        ------
        LanesUnavailable
            The process lives on another machine.
        Overloaded
            Every lane is taken.
        SwarmUnavailable
            The gate is not there yet.
        """
        if caller.boot_id != boot_id():
            raise LanesUnavailable("the caller lives on another machine", "Ask through Ray")
        gate = self._served()
        return gate.open(caller.pid, caller.started, caller.wait), gate.facts

    @runtime.answered_in("control")
    def gate_facts(self) -> GateFacts:
        """What a caller must know to ask in numbers."""
        return self._served().facts

    @runtime.answered_in("control")
    def ask_gate(self, operation: int, numbers: np.ndarray, tag: int) -> np.ndarray:
        """Answer one question for a caller who has no lane.

        Raises
        ------
        UnknownSnapshot
            The tag is that of another life of the gate, or of other symbols.
        """
        gate = self._served()
        if tag != gate.facts.tag:
            raise UnknownSnapshot("the gate speaks of other accounts and symbols now", "Ask for its facts")
        return gate.ask(operation, np.require(numbers, np.float64, ["C", "W"]))

    @runtime.answered_in("control")
    def instruct(self, instruction: Instruction) -> Any:
        """Carry out an instruction: see :meth:`actors.trading.gate.control.Control.obey`."""
        return self._served().control.obey(instruction)

    @runtime.answered_in("control")
    def describe(self) -> GateStatus:
        """The gate in one look."""
        return self._served().describe()

    @runtime.answered_in("health")
    def lanes(self) -> PortStatus | None:
        """What the lanes have carried; None where the gate is not there yet."""
        return self._gate.lanes() if self._gate is not None else None

    @runtime.answered_in("control")
    def follow_ticks(self, stream: TickStream) -> None:
        """Take last prices from this ring from now on; the market data agent says so when ticks begin to flow."""
        from actors.trading.gate.intake import TickIntake

        if self._gate is None:
            return  # it will ask for the ring itself
        with self._changing:
            held = self._intake
            if held is not None and held.alive and held.stream.address == stream.address:
                return
            if held is not None:
                held.close()
            self._intake = None
            try:
                self._intake = TickIntake(self._gate, stream)
            except (LanesUnavailable, LaneLost) as error:
                self._last_error = f"no ticks: {error}"

    @runtime.answered_in("control")
    def prepare(self, snapshot_id: str) -> None:
        """Take covariance and symbols from the new current snapshot; positions and reservations stay."""
        if self._gate is None:
            return  # it will find the current snapshot itself
        try:
            _, snapshot = self._market(snapshot_id)
            symbols, covariance, prices = self._facts_of(snapshot)
            with self._changing:
                self._gate.renew(self._book_of_accounts.instruments(symbols), covariance, prices)
                self._gate.snapshot_id = snapshot_id
        except (SwarmError, runtime.ActorUnreachable) as error:
            if self.state in SERVING:
                self.become(AgentState.DEGRADED, f"stays on the snapshot before {snapshot_id[:12]}: {error}")
            raise
        if self.state is AgentState.DEGRADED:
            self.become(AgentState.HEALTHY)

    def resident_snapshot_id(self) -> str:
        """Snapshot that covariance and symbols come from."""
        return self._gate.snapshot_id if self._gate is not None else ""

    def seated(self) -> dict[str, Any]:
        """Cores, NUMA node and what must be said of them."""
        return self.seat.told()

    def _follow_committee(self, gate: Gate) -> None:
        """Ask the committee now and then, on a thread of its own: nothing else waits for it."""
        while True:
            self._learn(gate, ask=True)
            time.sleep(LEARN_S)

    def _learn(self, gate: Gate, *, ask: bool) -> None:
        """Hand the gate the ends of its committee's epochs, as the home and the committee prove them: voters who have
        left then decide nothing there although nobody shows a later decision. The gate proves them again, and without
        them keeps what it knows. Never raises."""
        try:
            trust = gate.control.trust
            if trust is None:
                return
            committee = self._electors = self._electors or self._client(trust.first)
            gate.control.learn(committee.known.since(trust.newest))
            if ask:
                with suppress(NoQuorum):  # nobody lives
                    committee.refresh()
                trust = gate.control.trust or trust
                gate.control.learn(committee.known.since(trust.newest))
        except Exception as error:  # a committee that is down or lies must not harm the gate
            self._last_error = f"the committee's epochs: {type(error).__name__}: {error}"

    def _client(self, first: Committee) -> CommitteeClient:
        """The committee, with what its home knows of it where that holds."""
        namespace = self.identity.namespace
        try:
            return CommitteeClient(first, namespace, folder=self._committee.parent)
        except InvalidInput as error:
            self._last_error = f"the committee's epochs: {error}"
            return CommitteeClient(first, namespace)

    def _served(self) -> Gate:
        if self._gate is None:
            raise SwarmUnavailable(f"the gate is {self.state}", "Ask again when it is HEALTHY")
        return self._gate

    def _market(self, snapshot_id: str | None) -> tuple[str, MarketSnapshot]:
        """A snapshot, the current one by default, its arrays views of the object store."""
        header = self.ask(Role.MARKET_DATA, lambda market: market.header.remote(snapshot_id, None), FETCH_TIMEOUT_S)
        (reference,) = self.ask(
            Role.MARKET_DATA, lambda market: market.share.remote(header.snapshot_id), FETCH_TIMEOUT_S
        )
        snapshot: MarketSnapshot = runtime.wait_for(reference, FETCH_TIMEOUT_S)
        return header.snapshot_id, snapshot

    def _facts_of(self, snapshot: MarketSnapshot) -> tuple[tuple[str, ...], np.ndarray, dict[str, float]]:
        """Symbols, covariance of the newest daily returns, and last prices where the snapshot has any."""
        returns = snapshot.returns[-self._settings.covariance_days :]
        covariance = np.atleast_2d(np.cov(returns, rowvar=False))
        last = snapshot.last_prices
        prices = {} if last is None else dict(zip(snapshot.symbols, last.tolist(), strict=True))
        return snapshot.symbols, covariance, prices
