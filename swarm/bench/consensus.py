"""``swarm bench consensus``: decisions through real replicas, beside what one bare Ray call costs in the same run.

Where the time of a decision goes is read from the replicas' own counters: thinking, syncing, sending. What is left of
the client's time is Ray and waiting for a core.
"""

from __future__ import annotations

import os
import signal
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Literal, get_args

from cluster import head, runtime
from cluster.errors import BootFailed, InvalidSettings
from consensus import decisions
from consensus.ballots import Choice, Moved, ballot, encode
from consensus.committee import CommitteeClient
from consensus.motions import new_motion
from consensus.rules import outcome
from consensus.seats import replica_name
from consensus.simplex.crypto import make_key
from consensus.simplex.types import Committee, Kind, vote_bytes
from consensus.simulator.world import World
from hive.messages.health import SwarmHealth
from swarm import boot
from swarm.bench.record import Row, row
from swarm.settings import Settings

WARM = 20
BATCH = 64
BATCHES = 24
CRASHES = 10
BETWEEN_CRASHES = 8
DEADLINE_S = 30.0
PATIENCE_S = 60.0
GOAL_MEDIAN_MS = {"ray": 20.0, "lanes": 5.0}
GOAL_TAIL_MS = 50.0
GOAL_CRASHED_MS = 100.0
GOAL_PER_SECOND = 200
CORE_RUNS = 5
CORE_REQUESTS = 200
SIGNATURES = 500


Voters = Literal[4, 7, 10]
Transport = Literal["ray", "lanes"]
TRANSPORTS: tuple[Transport, ...] = ("ray", "lanes")


def run(*, voters: Sequence[Voters], count: int, settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Committees of these sizes, by Ray and by lanes, one after the other, each on a Ray of its own."""
    rows = [*_crypto(), _core()]
    for size in voters:
        for transport in TRANSPORTS:
            consensus = replace(settings.consensus, voters=size, transport=transport)
            rows += _committee(replace(settings, consensus=consensus), count, progress)
    return rows


def sizes(asked: Sequence[int]) -> tuple[Voters, ...]:
    """Committee sizes to measure: these, or all there are.

    Raises
    ------
    InvalidSettings
        No committee has such a size.
    """
    known: tuple[Voters, ...] = get_args(Voters)
    unknown = set(asked) - set(known)
    if unknown:
        raise InvalidSettings(f"a committee of {min(unknown)} voters", "It has 4, 7 or 10")
    return tuple(size for size in known if not asked or size in asked)


def _committee(settings: Settings, count: int, progress: Callable[[str], None]) -> list[Row]:
    size = settings.consensus.voters
    settings = replace(settings, hub=replace(settings.hub, max_restarts=CRASHES))  # one voter may be killed each time
    with tempfile.TemporaryDirectory(prefix="riskswarm-bench-") as place:
        home = Path(place)
        runtime.embed(cpus=settings.ray.cpus or None, namespace=settings.namespace)
        try:
            boot.bring_up(settings, home, _quiet)
            first = decisions.read_committee(boot.committee_path(home))
            client = CommitteeClient(first, settings.namespace, deadline_s=DEADLINE_S)
            return _measured(client, settings, size, count, progress)
        finally:
            runtime.disconnect()


def _measured(
    client: CommitteeClient, settings: Settings, size: int, count: int, progress: Callable[[str], None]
) -> list[Row]:
    params: dict[str, Any] = {"voters": size, "by": settings.consensus.transport}
    voter = runtime.find_actor(replica_name(0), settings.namespace)
    times: dict[str, list[float]] = {"call": [], "vote": [], "decide": [], "whole": []}
    before: list[dict[str, Any]] = []
    for number in range(count + WARM):
        if number == WARM:
            before = client.status()
            times = {name: [] for name in times}
        if number % 50 == 0:
            progress(f"{size} voters, decision {number}")
        times["call"].append(_timed(lambda: runtime.wait_for(voter.nothing.remote(), PATIENCE_S)))
        started = time.perf_counter_ns()
        motion = client.motion("raise_limit", b"bench")
        epoch, given = client.vote(motion)
        voted = time.perf_counter_ns()
        client.finalize(motion, epoch, given)
        ended = time.perf_counter_ns()
        times["vote"].append((voted - started) / 1e6)
        times["decide"].append((ended - voted) / 1e6)
        times["whole"].append((ended - started) / 1e6)
    spent = _spent(before, client.status(), count)
    began = time.perf_counter_ns()
    batches = [_timed(lambda: client.propose_all([("raise_limit", b"bench")] * BATCH)) for _ in range(BATCHES)]
    per_second = BATCH * BATCHES / ((time.perf_counter_ns() - began) / 1e9)
    call = row("one Ray call to a replica", times["call"], unit="ms", params=params)
    goals = _goals(size, settings.consensus.transport)
    rows = [
        call,
        row(
            "decision, ballots and all",
            times["whole"],
            unit="ms",
            params=params | spent,
            goal=goals.get("median"),
            peer=call,
        ),
        row(
            "decision, ballots and all, tail",
            times["whole"],
            unit="ms",
            params=params,
            goal=goals.get("tail"),
            peer=call,
        ),
        row("of it, until the ballots are there", times["vote"], unit="ms", params=params, peer=call),
        row("of it, until a certificate is verified", times["decide"], unit="ms", params=params, peer=call),
        row(
            f"{BATCH} motions at a time",
            batches,
            unit="ms",
            params=params | {"decisions per second": round(per_second)},
            goal=goals.get("batch"),
            peer=call,
        ),
    ]
    crashed = _crashes(client, settings, size, progress)
    if crashed:
        killed = "decision when the leader was just killed"
        rows.append(row(killed, crashed, unit="ms", params=params, goal=goals.get("crash")))
    return rows


def _goals(size: int, transport: Transport) -> dict[str, tuple[str, float]]:
    """Of every committee, so many decisions a second, and one soon after its leader's death; of four voters, how soon
    any decision must be there."""
    goals = {"batch": ("mean", BATCH / GOAL_PER_SECOND * 1e3), "crash": ("p99", GOAL_CRASHED_MS)}
    if size == 4:
        goals |= {"median": ("p50", GOAL_MEDIAN_MS[transport]), "tail": ("p99", GOAL_TAIL_MS)}
    return goals


def _crashes(client: CommitteeClient, settings: Settings, size: int, progress: Callable[[str], None]) -> list[float]:
    """Times of decisions that begin with the next leader's death; it is back before the next one dies.

    Timers double where leaders die in view after view. Here a committee decides in between, and they are at rest.
    """
    times = []
    for number in range(CRASHES):
        progress(f"{size} voters, killing leader {number}")
        hub = runtime.find_actor("hub", settings.namespace)
        health: SwarmHealth = runtime.wait_for(hub.health.remote(), PATIENCE_S)
        pids = {agent.agent_id: agent.pid for agent in health.agents}
        for _ in range(BETWEEN_CRASHES):  # what a committee is at that loses a leader now and then
            client.propose("raise_limit", b"bench")
        said = next(one for one in client.status() if "leader" in one)
        os.kill(pids[replica_name(said["leader"])], signal.SIGKILL)
        times.append(_timed(lambda: client.propose("raise_limit", b"bench")))
        if not head.until(lambda: len({one.get("height") for one in client.status()}) == 1, PATIENCE_S):
            raise BootFailed("a replica that was killed is not back", "Look into Ray's logs")
    return times


def _spent(before: list[dict[str, Any]], after: list[dict[str, Any]], count: int) -> dict[str, float]:
    """Milliseconds of one replica for one decision, by phase, and calls and syncs; means over the replicas."""

    def mean(name: str) -> float:
        return (
            float(sum(late[name] - early[name] for early, late in zip(before, after, strict=True))) / len(after) / count
        )

    return {
        "thinking ms": round(mean("core_ns") / 1e6, 2),
        "syncing ms": round(mean("sync_ns") / 1e6, 2),
        "sending ms": round(mean("send_ns") / 1e6, 2),
        "syncs": round(mean("syncs"), 1),
        "letters": round(mean("letters"), 1),
        "signatures": round(mean("signatures_verified"), 1),
    }


def _crypto() -> list[Row]:
    """What signing and verifying costs, bare and for a decision's ballots and certificate of four voters."""
    with tempfile.TemporaryDirectory(prefix="riskswarm-bench-") as place:
        signers = [make_key(Path(place, str(number))) for number in range(4)]
    committee = Committee.founded(tuple(signer.public for signer in signers), bytes(16))
    motion = new_motion("raise_limit", b"bench", expires_utc_ns=2**62)
    given = tuple(ballot(signer, committee, motion, Choice.APPROVE) for signer in signers[:3])
    asked = Moved(0, motion, given)
    data = encode(asked)
    message = vote_bytes(committee.chain, Kind.FINALIZE, 0, 1, motion.id)
    sign = [_timed(lambda: signers[0].sign(message)) * 1e3 for _ in range(SIGNATURES)]
    verify = [_timed(lambda: outcome(asked, committee)) * 1e3 for _ in range(SIGNATURES)]
    signed = row("one signature", sign, unit="us")
    return [
        signed,
        row("a motion's three ballots verified", verify, unit="us", params={"bytes": len(data)}, peer=signed),
    ]


def _core() -> Row:
    """What the pure core, its simulated network included, takes for one message: seven voters, calm weather."""
    times = []
    for seed in range(CORE_RUNS):
        world = World(seed, nodes=7)
        for number in range(CORE_REQUESTS):
            world.at(number * 5.0, partial(world.submit, number % 7, b"request %d" % number))
        elapsed_ms = _timed(partial(world.run, CORE_REQUESTS * 5.0 + 1000.0))
        times.append(elapsed_ms * 1e3 / world.handled)
    return row("one message in the simulator", times, unit="us", params={"voters": 7}, goal=("p50", 50.0))


def _timed(work: Callable[[], Any]) -> float:
    started = time.perf_counter_ns()
    work()
    return (time.perf_counter_ns() - started) / 1e6


def _quiet(_text: str, _health: SwarmHealth | None) -> None:
    """Nobody watches."""
