"""A voter of the committee as a Ray actor: it lives, registers and beats as agents do; a replica of it decides.

Ray neither repeats nor orders anything that matters here: messages are told and forgotten, and the protocol says again
what was lost. When Ray restarts the process, key, committee and log are read again before anything is said.
"""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from actors.agent import Agent, Identity
from actors.consensus.estimating import estimate
from actors.consensus.guilt import guilt
from actors.settings import ShellSettings
from actors.trading.gate.mandate import judge
from cluster import runtime
from cluster.errors import LanesUnavailable, SwarmError, SwarmUnavailable
from cluster.lanes.addresses import BroadcastAddress
from consensus.ballots import Ballot
from consensus.lanes import Lanes
from consensus.replica import Replica
from consensus.seats import Seat, replica_name, seat_of
from consensus.settings import ConsensusSettings
from consensus.simplex.crypto import Signer
from consensus.waiting import Answer
from hive.messages.alert import Alert
from hive.messages.calculation import Role
from hive.messages.health import AgentReport, AgentState

CALLERS = 32
CONCURRENCY_GROUPS = {"health": 1, "control": 2, "inbox": 1, "clients": CALLERS}
"""Of the inbox one thread, since it only puts down what came; of clients as many as may wait for decisions."""
INTRODUCTION_S = 5.0  # how long a peer may take to say where it speaks
SWITCH_S = 0.001  # the thread that takes messages down must not wait 5 ms for the one that reads them


@dataclass(frozen=True)
class Terms:
    """What a voter was made with, so that another one can be made that lives as it does."""

    identity: Identity
    shell: ShellSettings
    settings: ConsensusSettings
    folder: str


class ReplicaAgent(Agent):
    """A voter, in a seat whose number is in its name.

    Parameters
    ----------
    folder : str
        Where this voter keeps key, committee and log.
    founded : bool
        Whether this seat was taken before: a key that is missing then has been lost, and none is made.
    """

    role: ClassVar[Role] = Role.CONSENSUS

    def __init__(
        self, identity: Identity, shell: ShellSettings, settings: ConsensusSettings, folder: str, founded: bool
    ) -> None:
        self._settings, self._seat, self._may_make = settings, Seat(Path(folder)), not founded
        self._number = seat_of(identity.agent_id)
        self._opening, self._meeting = threading.Lock(), threading.Lock()
        self._replica: Replica | None = None
        self._lanes: Lanes | None = None
        self._handles: dict[int, Any] = {}
        self._peers: dict[int, Callable[..., bool]] = {}
        self._publics: dict[int, bytes] = {}
        self._alerts: dict[str, Alert] = {}
        """Open ones as they were first seen, by what they say."""
        super().__init__(identity, shell)

    def initialise(self) -> None:
        """Open key, committee and log, make oneself known to all who live, and take part."""
        self._key()
        sys.setswitchinterval(SWITCH_S)
        if not self._seat.founded:
            raise SwarmUnavailable("the committee has not been founded", "It is while the swarm comes up")
        if self._replica is None:
            with self._opening:
                replica = Replica(
                    self._seat, self._settings, self._tell, judge, number=self._number, estimator=self._estimate
                )
            try:
                self._make_known(replica)
                with self._meeting:
                    self._speak_through_lanes(replica)
                    for seat, public in self._publics.items():
                        replica.peers.meet(seat, public)
                    self._replica = replica  # before it begins, since it speaks at once
            except BaseException:
                replica.close()
                raise
            replica.start()

    @runtime.answered_in("health")
    def ping(self) -> AgentReport:
        """The agent's own report; a voter that does not take part in full is DEGRADED and says why."""
        if self._replica is not None and self.state in {AgentState.HEALTHY, AgentState.DEGRADED}:
            trouble = self._replica.trouble
            self.become(AgentState.DEGRADED if trouble else AgentState.HEALTHY, trouble)
        return super().ping()

    def seated(self) -> dict[str, Any]:
        """Whether it is a voter now."""
        return {"observes": self._replica is not None and not self._replica.votes}

    def alerts(self) -> tuple[Alert, ...]:
        """Who of the committee was proved faulty, and who was quarantined."""
        if self._replica is None:
            return ()
        found = guilt(self._replica, self.identity.agent_id, time.time_ns())
        self._alerts = {alert.dedup_key: self._alerts.get(alert.dedup_key, alert) for alert in found}
        return tuple(self._alerts.values())

    @runtime.answered_in("control")
    def founding(self) -> tuple[bytes, str, str]:
        """The voter's public key, the address of its machine, and the committee it is in: no text while in none.

        Raises
        ------
        KeyUnusable
            The key is missing, or others may read it.
        """
        public = self._key().public
        return public, runtime.node_address(), self._seat.committee.read_text() if self._seat.founded else ""

    @runtime.answered_in("control")
    def found(self, committee: str, later: bool = False) -> None:
        """Take a seat in a committee; raises as :meth:`consensus.replica.Seat.found`."""
        with self._opening:
            signer = self._seat.signer(may_make=False) if self._seat.founded else self._signer()
            self._seat.found(committee, signer, later=later)

    @runtime.answered_in("control")
    def terms(self) -> Terms:
        """What this voter was made with."""
        return Terms(self.identity, self.shell, self._settings, str(self._seat.folder))

    @runtime.answered_in("control")
    def meet(self, seat: int, public: bytes, answer: bool) -> None:
        """Know a voter that has begun to live, and say who one is where it asks for an answer."""
        handle = runtime.find_actor(replica_name(seat), self.identity.namespace)
        with self._meeting:
            self._publics.setdefault(seat, public)
            self._enter(seat, handle)
            if self._replica is not None:
                self._replica.peers.meet(seat, public)
            if self._lanes is not None:
                self._lanes.attend(seat)
        if answer:
            runtime.teller(handle.meet)(self._number, self._key().public, False)

    @runtime.answered_in("control")
    def part(self, seat: int) -> None:
        """Forget a voter that has left; of one that votes nobody can say so."""
        with self._meeting:
            if self._replica is not None and not self._replica.peers.part(seat):
                return
            for known in (self._publics, self._handles, self._peers):
                known.pop(seat, None)
            if self._lanes is not None:
                self._lanes.ignore(seat)

    @runtime.answered_in("inbox")
    def deliver(self, sender: int, messages: Sequence[bytes], token: bytes = b"") -> None:
        """Hear a peer; before this voter takes part, it hears nothing. Anybody can call this: the token says who does.

        That keeps a peer's room for that peer. Whoever can call can still call without end, or end the process: all who
        join one Ray trust each other that far.
        """
        if self._replica is not None:
            self._replica.deliver(self._replica.peers.vouched(sender, token), messages)

    @runtime.answered_in("control")
    def introduce(self, peer: int, node: str, token: bytes = b"") -> BroadcastAddress | None:
        """Where this voter speaks, for a peer of the same node that will listen; one that names none will not.

        The peer's token must show that it asks: who is believed to listen is told by no other means.
        """
        if self._lanes is None or self._replica is None or self._replica.peers.vouched(peer, token) != peer:
            return None
        if node != runtime.node_id():
            self._lanes.listening.discard(peer)
            return None
        self._lanes.listening.add(peer)
        return self._lanes.address

    @runtime.answered_in("clients")
    def ballots(self, motions: Sequence[bytes]) -> tuple[int, tuple[int, int], list[Any]]:
        """The epoch, who leads now and next, and this voter's ballots or refusals."""
        found: tuple[int, tuple[int, int], list[Ballot | Any]] = self._taking_part().ballots(motions)
        return found

    @runtime.answered_in("clients")
    def estimates(self, motions: Sequence[bytes]) -> tuple[int, list[Any]]:
        """The epoch, and this voter's own numbers or refusals."""
        found: tuple[int, list[Any]] = self._taking_part().estimates(motions)
        return found

    @runtime.answered_in("clients")
    def decide(self, bodies: Sequence[bytes], patience_s: float) -> list[Answer]:
        """What becomes of requests."""
        return self._taking_part().decide(bodies, patience_s)

    @runtime.answered_in("clients")
    def decided(self, identities: Sequence[bytes]) -> list[Answer]:
        """Decisions by id."""
        return self._taking_part().found(identities)

    @runtime.answered_in("clients")
    def log(self, above: int, most: int) -> list[tuple[bytes, int, bytes]]:
        """Decisions above a height."""
        return self._taking_part().log(above, most)

    @runtime.answered_in("clients")
    def ends(self, epoch: int) -> list[bytes]:
        """What proves how epochs ended, and so who votes now."""
        return self._replica.ends(epoch) if self._replica is not None else []

    @runtime.answered_in("clients")
    def evidence(self) -> list[bytes]:
        """Proofs of misconduct."""
        return self._taking_part().evidence()

    @runtime.answered_in("control")
    def status(self) -> dict[str, Any]:
        """Where the voter stands, on which node."""
        place = {
            "name": self.identity.agent_id,
            "node": runtime.node_id(),
            "state": self.state.value,
            "transport": "ray" if self._lanes is None else "lanes",
            "by_lane": 0 if self._lanes is None else self._lanes.spoken,
        }
        return place | (self._replica.status() if self._replica is not None else {})

    @runtime.answered_in("control")
    def nothing(self) -> None:
        """What a bare call costs; for benchmarks."""

    def _key(self) -> Signer:
        with self._opening:
            return self._signer()

    def _signer(self) -> Signer:
        return self._seat.signer(may_make=self._may_make)

    def _estimate(self, text: str, until_utc_ns: int) -> float:
        assert self._replica is not None
        try:
            return estimate(text, until_utc_ns, voter=self._replica.place, namespace=self.identity.namespace)
        except (runtime.ActorUnreachable, runtime.QueueFull) as error:
            raise SwarmUnavailable(f"the agent cannot be asked ({error})", "Ask again") from error

    def _tell(self, peers: list[int], messages: list[bytes]) -> int:
        assert self._replica is not None
        number = self._replica.peers.number
        left = self._lanes.tell(peers, messages) if self._lanes is not None else peers
        live = [peer for peer in left if peer in self._peers]  # others do not live, or have left
        return sum(not self._peers[peer](number, messages, self._replica.peers.token(peer)) for peer in live)

    def _enter(self, seat: int, handle: Any) -> None:
        self._handles[seat], self._peers[seat] = handle, runtime.teller(handle.deliver)

    def _make_known(self, replica: Replica) -> None:
        """Tell every voter that lives who this is. Those that begin to live later will tell it."""
        for name in runtime.named_actors(self.identity.namespace):
            seat = seat_of(name)
            if seat is None or seat == replica.peers.number:
                continue
            handle = runtime.find_actor(name, self.identity.namespace)
            with self._meeting:
                self._enter(seat, handle)
            runtime.teller(handle.meet)(replica.peers.number, self._key().public, True)

    def _speak_through_lanes(self, replica: Replica) -> None:
        """Let the peers know where this voter speaks and listens, if it does, or that it does no more."""
        if self._settings.transport == "ray":
            for peer, handle in self._handles.items():
                runtime.teller(handle.introduce)(replica.peers.number, "", replica.peers.token(peer))
            return
        node = runtime.node_id()

        def introduce(peer: int) -> Any:
            try:
                call = self._handles[peer].introduce.remote(replica.peers.number, node, replica.peers.token(peer))
                return runtime.wait_for(call, INTRODUCTION_S)
            except (KeyError, SwarmError, runtime.ActorUnreachable, runtime.QueueFull):
                return None

        try:
            self._lanes = Lanes(replica.peers.number, tuple(self._handles), introduce, replica.heard, replica.lost)
        except LanesUnavailable:
            return  # peers of another life are told by their own ears, which find nothing to listen to
        self._lanes.start()
        replica.listen(self._lanes)

    def _taking_part(self) -> Replica:
        if self._replica is None:
            raise SwarmUnavailable(f"{self.identity.agent_id} does not take part yet", "Ask another replica")
        return self._replica
