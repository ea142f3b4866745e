"""``swarm up --address`` on a Ray where others live: it ends its own, and leaves all else alone."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import ray

from cluster import session
from consensus import decisions
from consensus.seats import Seat
from consensus.simplex.crypto import Signer
from consensus.simplex.types import Committee, Kind, Vote, encode, vote_bytes
from swarm import SwarmClient
from tests.conftest import wait_until_healthy
from tests.swarm.commands import TIMEOUT_S, answer, comes_to, swarm


@pytest.fixture
def address(healthy: SwarmClient) -> Iterator[str]:
    """Of the Ray of the embedded swarm, which goes on undisturbed."""
    before = _processes(healthy)
    yield str(ray.get_runtime_context().gcs_address)
    wait_until_healthy(healthy)
    assert _processes(healthy) == before


def test_workers_of_an_embedded_ray_are_as_nice_as_any_other_process(healthy: SwarmClient) -> None:
    assert ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote(), timeout=60) == os.nice(0)


def _processes(client: SwarmClient) -> dict[str, int]:
    return {agent.agent_id: agent.pid for agent in client.health().agents}


def test_second_swarm_on_the_same_ray_is_refused_and_the_first_goes_on(address: str, tmp_path: Path) -> None:
    done = swarm(tmp_path, "up", "--address", address)
    assert done.returncode == 4 and "already lives in namespace riskswarm" in " ".join(done.stderr.split())
    assert not session.session_path(tmp_path).exists()


FOREIGN = """
import ray, sys
ray.init(address=sys.argv[1], namespace="other", log_to_driver=False, logging_level="ERROR")
@ray.remote(num_cpus=0)
class Mine:
    def here(self):
        return True
if sys.argv[2] == "make":
    Mine.options(name=sys.argv[3], lifetime="detached").remote()
print(ray.get(ray.get_actor(sys.argv[3]).here.remote(), timeout=30))
if sys.argv[2] == "end":
    ray.kill(ray.get_actor(sys.argv[3]))
"""


def foreign(address: str, act: str, name: str) -> str:
    """What an actor of somebody else in the namespace ``other`` answers."""
    done = subprocess.run(
        [sys.executable, "-c", FOREIGN, address, act, name],
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return done.stdout.splitlines()[-1]  # Ray may warn before


def test_name_that_somebody_holds_is_a_conflict_and_stays_his(address: str, tmp_path: Path) -> None:
    assert foreign(address, "make", "stress") == "True"
    done = swarm(tmp_path, "--set", "namespace=other", "up", "--address", address)
    assert done.returncode == 4 and "an actor named stress already lives" in " ".join(done.stderr.split())
    assert foreign(address, "end", "stress") == "True"
    assert not session.session_path(tmp_path).exists()


def test_store_that_cannot_be_written_fails_the_boot_at_once_and_leaves_nothing(address: str, tmp_path: Path) -> None:
    (tmp_path / "snapshots").write_text("in the way")
    done = swarm(tmp_path, "--set", "namespace=third", "up", "--address", address)
    words = " ".join(done.stderr.split())
    assert done.returncode == 7 and "market_data is DEAD: cannot initialise" in words
    assert "Traceback" not in words
    assert not session.session_path(tmp_path).exists()


TOLD = """
import ray, sys
ray.init(address=sys.argv[1], namespace="other", log_to_driver=False, logging_level="ERROR")
words = [bytes.fromhex(word) for word in sys.argv[3:]]
ray.get(ray.get_actor("consensus-1").deliver.remote(int(sys.argv[2]), words), timeout=30)
"""


def founded(home: Path) -> tuple[Committee, list[Seat], list[Signer]]:
    """Four voters' folders as a swarm leaves them that was up once."""
    seats = [Seat(home / "consensus" / f"consensus-{number + 1}") for number in range(4)]
    for seat in seats:
        seat.folder.parent.mkdir(exist_ok=True)
    signers = [seat.signer(may_make=True) for seat in seats]
    committee = Committee.founded(tuple(signer.public for signer in signers), bytes(16))
    text = decisions.committee_text(committee, bytes(16))
    for seat, signer in zip(seats, signers, strict=True):
        seat.found(text, signer)
    (home / "consensus" / "committee.json").write_text(text)
    return committee, seats, signers


def test_a_swarm_comes_up_without_one_voter_of_four_and_says_so_and_not_without_two(
    address: str, tmp_path: Path
) -> None:
    """And whoever has that voter's key, which others could read, is proved guilty and quarantined by the three.

    ``swarm down`` ends the swarm's own actors, and leaves those alone that others have in its namespace.
    """
    committee, seats, signers = founded(tmp_path)
    options = ["--set", "namespace=other", "--set", "consensus.voters=4", "--set", "consensus.deadline_s=20"]
    seats[3].key.chmod(0o644)
    assert foreign(address, "make", "mine") == "True"
    done = swarm(tmp_path, *options, "up", "--address", address)
    assert done.returncode == 0, done.stderr
    assert answer(tmp_path, *options, "risk", "--calc", "liquidity")["completeness"] == 1.0
    found = answer(tmp_path, *options, "health")
    (lost,) = (agent for agent in found["agents"] if agent["state"] != "HEALTHY")
    assert (found["state"], lost["agent_id"], lost["state"]) == ("degraded", "consensus-4", "DEAD")
    assert "others may read the key" in lost["reason"] and "chmod 600" in lost["reason"]
    assert [(alert["kind"], alert["subject"]) for alert in found["alerts"]] == [("agent_failure", "consensus-4")]
    decided = answer(tmp_path, *options, "consensus", "propose", "raise_limit", "var 0.03")
    assert decided["outcome"] == "approved"
    replicas = answer(tmp_path, *options, "consensus", "status")["replicas"]
    assert [one["state"] for one in replicas] == ["HEALTHY"] * 3 + ["DEAD"]
    figures = replicas[decided["ballots"][0]["voter"]]
    assert figures["decisions"] == 1 and figures["ballots_verified"] >= 3
    assert sum(sum(one.get("latency_histogram_us", ())) for one in replicas) >= 1  # of those that the client asked
    assert figures["passed_views"] > figures["nullified_views"] >= 0 and figures["signatures_verified"] > 0

    def evidence() -> list[dict]:
        return answer(tmp_path, *options, "consensus", "log", "--evidence")["evidence"]

    assert evidence() == []
    words = []
    for digest in (b"\x01" * 32, b"\x02" * 32):  # others have read the key, and vote with it
        signature = signers[3].sign(vote_bytes(committee.chain, Kind.NOTARIZE, 0, figures["view"] + 5, digest))
        words.append(encode(Vote(Kind.NOTARIZE, 0, figures["view"] + 5, digest, 3, signature)).hex())
    subprocess.run(
        [sys.executable, "-c", TOLD, address, "3", *words],
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        timeout=TIMEOUT_S,
        check=True,
    )
    kinds = "{alert.kind for alert in health.alerts if alert.subject == 'consensus-4'}"
    assert comes_to(tmp_path, f"{kinds} >= {{'byzantine_fault', 'voter_quarantined'}}")
    (proof,) = evidence()
    assert (proof["culprit"], proof["epoch"], proof["what"]) == (3, 0, "ConflictingVotes")

    def alerts() -> dict[str, dict]:
        found = answer(tmp_path, *options, "health")["alerts"]
        return {alert["kind"]: alert for alert in found if alert["subject"] == "consensus-4"}

    assert alerts()["byzantine_fault"]["proof"] == proof["sha256"]
    shown = " ".join(swarm(tmp_path, *options, "alerts").stdout.split())
    assert "consensus-4, is proved faulty: ConflictingVotes" in shown and proof["sha256"][:12] in shown
    assert answer(tmp_path, *options, "consensus", "propose", "raise_limit", "var 0.04")["epoch"] == 1

    assert "is down" in swarm(tmp_path, *options, "down").stdout
    done = swarm(tmp_path, *options, "health", "--address", address)
    assert done.returncode == 2 and "no `hub` actor lives in namespace other" in " ".join(done.stdout.split())
    assert foreign(address, "end", "mine") == "True", "what others have there is left alone"

    seats[2].key.rename(seats[2].key.with_suffix(".away"))
    done = swarm(tmp_path, *options, "up", "--address", address)
    said = " ".join(done.stderr.split())
    assert done.returncode == 7 and "consensus-3 is DEAD" in said and "is missing" in said
    assert "consensus-4 is DEAD" in said and not session.session_path(tmp_path).exists()
