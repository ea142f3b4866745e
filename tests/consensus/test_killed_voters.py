"""Voters on real Ray, killed under load with their logs torn: up to f at a moment, and again while they come back.

``RISKSWARM_TORTURE_KILLS`` sets how many lives each storm ends (`make storm`), ``RISKSWARM_STORM_FIRST`` its seed.
"""

from __future__ import annotations

import functools
import os
import random
import signal
import threading
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import pytest

from cluster import runtime
from cluster.errors import SwarmError
from consensus import decisions
from consensus.committee import CommitteeClient
from consensus.seats import Seat, replica_name
from consensus.settings import ConsensusSettings
from consensus.simplex import crypto
from hive.messages.health import AgentState
from swarm import boot
from swarm.settings import Settings
from tests.conftest import agent, eventually, stopped
from tests.consensus.conftest import DEADLINE_S, committee_of
from tests.consensus.logs import torn, written

KILLS = int(os.environ.get("RISKSWARM_TORTURE_KILLS", "2"))
SEED = int(os.environ.get("RISKSWARM_STORM_FIRST", "7"))
CLIENTS = 2
MOVED = [("note", b"load"), ("raise_limit", b"load"), ("kill", b"load"), ("note", b"more")]
BREATH_S = 0.03  # between a client's motions: what voters do about them is what the test is for, not how many there are
MOST_BETWEEN = 24
"""Decisions from one blow to the next."""
ANSWER_S = 60.0
"""For a whole log."""


@pytest.fixture(scope="module", params=[(4, "ray"), (7, "lanes")], ids=["four", "seven"])
def committee(request, client, tmp_path_factory):
    home = tmp_path_factory.mktemp("killed")
    voters, transport = request.param
    settings = Settings(consensus=ConsensusSettings(voters=voters, deadline_s=DEADLINE_S, transport=transport))
    with committee_of(client, home, settings):
        found = client.committee(proposer="tests", keys=boot.committee_path(home))
        yield found, [Seat(home / "consensus" / replica_name(number)) for number in range(voters)]


@contextmanager
def load(first):
    """Clients that have one motion after the other decided: what they were given, by id, and what they were refused."""
    stop, given, failures = threading.Event(), {}, []

    def move():
        own = CommitteeClient(first, "riskswarm", deadline_s=DEADLINE_S)
        while not stop.wait(BREATH_S):
            try:
                given.update((decision.id, decision) for decision in own.propose_all(MOVED))
            except SwarmError as error:
                failures.append(error)

    threads = [threading.Thread(target=move) for _ in range(CLIENTS)]
    for thread in threads:
        thread.start()
    try:
        yield given, failures
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def life(seat: Seat) -> int:
    """The process that has a voter's log open, which it has from early in its life on; 0 while none has."""
    for process in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it has ended since, or is another user's
            if not (process / "comm").read_text().startswith("ray::"):
                continue
            for file in (process / "fd").iterdir():
                with suppress(OSError):
                    if file.readlink() == seat.log.resolve():
                        return int(process.name)
    return 0


def broken_off(seat: Seat, rng: random.Random) -> bytes:
    """What may be left of a write: half a record, pages of zeros, or nothing."""
    half = written(seat)[-rng.randint(40, 200) : -rng.randint(1, 39)]
    return rng.choice([half, bytes(rng.randint(1, 200)), b""])


def strike(seats: list[Seat], ended: set[int], rng: random.Random) -> None:
    """End the lives of voters at a moment, each in whatever it is about; those that are away, as soon as they begin."""
    pids: list[int] = []

    def alive():
        pids[:] = [found for found in map(life, seats) if found and found not in ended]
        return len(pids) == len(seats)

    assert eventually(alive), "a voter that was killed does not come back"
    with ExitStack() as stack:
        for pid in pids:  # so that the logs are still when their ends are torn, before another life opens them
            stack.enter_context(stopped(pid))
        for seat in seats:
            torn(seat, broken_off(seat, rng))
        for pid in pids:
            os.kill(pid, signal.SIGKILL)
        ended.update(pids)


def blows(rng: random.Random, voters: int, number: int) -> list[list[int]]:
    """Whom a round kills, blow by blow: all at a moment, or each while the one before comes back, and one again.

    They are no more than f, so that they may all be away at once.
    """
    faults = (voters - 1) // 3
    victims = rng.sample(range(voters), faults if number < 2 else rng.randint(1, faults))
    return [victims] if number % 2 == 0 else [[victim] for victim in (*victims, rng.choice(victims))]


def healthy(client, number: int, seat: Seat, ended: set[int]) -> bool:
    """Whether a voter says so in a life that was not ended."""
    now = agent(client, replica_name(number))
    return now.state is AgentState.HEALTHY and now.pid not in ended and now.pid == life(seat)


def decided(committee, number: int, check: crypto.Verify) -> dict:
    """Every decision in a voter's log, by id, each verified."""
    voter = runtime.find_actor(replica_name(number), "riskswarm")
    certified = functools.cache(lambda evidence: decisions.certified(committee.first, evidence, check))
    entries = runtime.wait_for(voter.log.remote(0, 10**6), ANSWER_S)
    found = {identity: certified(evidence).about(identity) for identity, _, evidence in entries}
    return {identity: (one.height, one.outcome, one.asked) for identity, one in found.items()}


def test_voters_killed_under_load_with_torn_logs_lose_and_contradict_nothing(committee, client):
    committee, seats = committee
    rng, ended, number = random.Random(SEED), set(), 0
    with load(committee.first) as (given, failures):
        while len(ended) < KILLS:
            for victims in blows(rng, len(seats), number):
                enough = len(given) + rng.randint(1, MOST_BETWEEN)
                assert eventually(lambda enough=enough: len(given) >= enough or failures), "nothing is decided"
                strike([seats[victim] for victim in victims], ended, rng)
            number += 1
            for voter, seat in enumerate(seats):
                assert eventually(lambda voter=voter, seat=seat: healthy(client, voter, seat, ended)), client.health()
            assert not failures
    assert not failures
    last = max(decision.height for decision in given.values())
    assert eventually(lambda: all(said.get("height", 0) >= last for said in committee.status()))
    check = functools.cache(crypto.verify)
    logs = [decided(committee, voter, check) for voter in range(len(seats))]
    for log in logs:
        assert all(log[found] == (one.height, one.outcome, one.asked) for found, one in given.items())
        assert all(log[found] == one for other in logs for found, one in other.items() if found in log)
    tips = {(said["height"], said["tip"]) for said in committee.status()}
    assert len({height for height, _ in tips}) == len(tips)
    assert not committee.evidence()
    assert not any(said["strange"] for said in committee.status())
