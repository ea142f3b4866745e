"""A swarm with a committee, by its commands: they open its gate, decide, verify, and put others in a voter's place."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.swarm.commands import (
    TIMEOUT_S,
    Traces,
    answer,
    brought_up,
    down_ends_every_process_and_file_of_its_ray,
    swarm,
)

SCRIPT = """
import contextlib, io, json, sys
from actors.trading.gate.switch import user
from consensus.decisions import proved
from hive.messages.gate import Action, Unmandated, Warrant
from hive.messages.orders import Order, Side
from swarm import SwarmClient
from swarm.cli.main import main
from tests.conftest import agent, stopped

DESK = Warrant("ada", "drill")
numbers = iter(range(1, 100))

def command(*arguments):
    '''Exit code and answer of a command, as a user types it.'''
    sys.argv, printed = ["swarm", *arguments, "--json"], io.StringIO()
    try:
        with contextlib.redirect_stdout(printed):
            main()
    except SystemExit as left:
        return left.code or 0, json.loads(printed.getvalue())
    return 0, json.loads(printed.getvalue())

with SwarmClient() as client, client.gate() as gate:
    def verdict():
        header = client.snapshot()
        gate.tick("AAPL", float(header.last_prices[header.symbols.index("AAPL")]))
        number = next(numbers)  # of units too, so that none is like another
        return gate.check(Order(number, "main", "AAPL", Side.BUY, float(number))).reason.name

    found = {"open": verdict()}
    gate.kill("drill")
    found["killed"] = verdict()
    try:
        gate.instruct(Action.RELEASE_KILL, {"kills": 1}, DESK)
    except Unmandated as error:
        found["bare word"] = str(error)
    found["free text"] = client.committee().propose("raise_limit", b"var 0.03").outcome
    found["no instruction"] = client.committee().propose("permit_trading", b"AAPL").outcome
    found["release"] = command("gate", "release", "--reason", "drill is over")
    found["opened"] = verdict()
    row = command("gate", "journal", "-n", "1")[1]["control"][0]
    decision = proved(client.committee().first, bytes.fromhex(row["evidence"]), bytes.fromhex(row["decision"]))
    found["row"] = [row["action"], row["decision"], decision.asked.motion.proposer == user()]
    done = gate.propose(Action.LIMITS, {"max_gross": 3e7}, DESK)
    found["by python"] = [done.decision.outcome, gate.describe().limits["max_gross"]]
    pids = [agent(client, f"consensus-{number}").pid for number in (1, 3)]
    with stopped(pids[0]), stopped(pids[1]):
        found["closed"] = [gate.kill("drill").closed, verdict()]
        found["lowered"] = command("gate", "limits", "max_gross=1000")[0], gate.describe().limits["max_gross"]
        found["no quorum"] = command("gate", "release", "--reason", "please")
        found["stays"] = [verdict(), gate.describe().killed, gate.describe().kills]
    found["again"] = command("gate", "release", "--reason", "all are back")[1]["open"]
    found["still lowered"] = verdict()
print(json.dumps(found))
"""


FORGERY = """
import contextlib, json, os, sys
from pathlib import Path
from actors.trading.gate import mandate
from cluster import runtime
from cluster.errors import SwarmError
from consensus.waiting import Answer
from consensus.simplex.crypto import load_key
from hive.messages.gate import Action, Warrant
from swarm import SwarmClient
from tests.conftest import agent, eventually, stopped
from tests.consensus.signed import Voters

voters, folder = sys.argv[1:], Path(os.environ["SWARM_HOME"]) / "consensus"
DESK, HALTED, NAMESPACE = Warrant("ada", "drill"), {"name": "AAPL"}, "riskswarm"

class Forger:
    '''A process that sits down beside the voters and shows what it was given.'''

    def __init__(self):
        self.evidence = b""

    def give(self, evidence):
        self.evidence = evidence

    def ends(self, epoch):
        return []

    def decide(self, bodies, patience_s):
        return [Answer(self.evidence)] * len(bodies)

    def decided(self, identities):
        return [Answer(self.evidence)] * len(identities)

def said(call):
    try:
        return str(call())
    except SwarmError as error:
        return f"{type(error).__name__}: {error}"

with SwarmClient() as client, client.gate() as gate:
    fresh = client.committee()
    known = fresh.present.epoch  # nobody was asked yet
    keys = {voter: load_key(folder / f"consensus-{voter + 1}" / "key") for voter in range(3)}
    stolen = Voters.stolen(fresh.first, keys)
    found = {"left": not any(key.public in fresh.present.keys for key in keys.values())}
    found |= {"client": known, "gate": eventually(lambda: gate.describe().epoch == known, 30.0)}

    gate.instruct(Action.HALT, HALTED, DESK)
    payload = mandate.payload(gate.facts().identity, Action.RESUME, HALTED)
    forged = stolen.decide(mandate.MOVED_AS[Action.RESUME], payload)
    found["forged"] = said(lambda: gate.instruct(Action.RESUME, HALTED, DESK, decision=forged))
    found["halted"] = gate.describe().halted

    forger = runtime.spawn(Forger, name="consensus-90", namespace=NAMESPACE, concurrency_groups={})
    pids = [agent(client, name).pid for name in voters]
    motion = fresh.motion("raise_limit", b"var 0.3", deadline_s=20.0)
    epoch, given = fresh.vote(motion)
    for how in ({}, {"height": 10**6, "parent": bytes(32)}):
        shown = stolen.decided(motion, **how)
        runtime.wait_for(forger.give.remote(shown.evidence), 30.0)
        found[f"shown at {shown.height}"] = getattr(fresh.decision(motion.id), "epoch", None)
    runtime.wait_for(forger.give.remote(stolen.decided(motion).evidence), 30.0)
    with contextlib.ExitStack() as still:
        for pid in pids:
            still.enter_context(stopped(pid))
        found["moved"] = said(lambda: fresh.finalize(motion, epoch, given).epoch)
    runtime.kill(forger)
    found["done"] = gate.propose(Action.RESUME, HALTED, DESK).decision.epoch
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, traces_of_home: Traces) -> Iterator[Path]:
    """Home of a swarm of four voters that is up."""
    place = tmp_path_factory.mktemp("committee")
    (place / "config.toml").write_text(
        "[consensus]\nvoters = 4\ndeadline_s = 20.0\n[gate]\npatience_s = 2.0\nstale_after_s = 60.0\n"
    )
    with brought_up(place):
        yield place


def said_by(home: Path, script: str, *arguments: str) -> dict[str, Any]:
    """What a script says last, in a process of its own that uses this home."""
    done = subprocess.run(
        [sys.executable, "-c", script, *arguments],
        env={**os.environ, "SWARM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_a_kill_is_released_by_the_committee_and_by_nobody_while_it_has_no_quorum(home: Path) -> None:
    found = said_by(home, SCRIPT)
    assert (found["open"], found["killed"]) == ("PASSED", "KILLED")
    assert "committee has to decide" in found["bare word"]
    assert (found["free text"], found["no instruction"]) == ("approved", "rejected")
    code, released = found["release"]
    assert (code, released["open"], released["kills"]) == (0, True, 1)
    assert len(released["certified_by"]) >= 3
    assert found["opened"] == "PASSED"
    assert found["row"] == ["release_kill", released["decision"], True]
    assert found["by python"] == ["approved", 3e7]
    assert found["closed"] == [True, "KILLED"]
    assert found["lowered"] == [0, 1000.0]
    code, refused = found["no quorum"]
    assert (code, refused["error"]["kind"]) == (3, "NoQuorum")
    assert found["stays"] == ["KILLED", True, 2]
    assert found["again"] is True
    assert found["still lowered"] == "GROSS"


def test_decisions_are_exported_verified_off_line_and_outlive_a_voter_that_is_replaced(
    home: Path, tmp_path: Path
) -> None:
    path = tmp_path / "decision.json"
    found = answer(home, "consensus", "propose", "raise_limit", "var 0.03", "--export", str(path))
    assert found["outcome"] == "approved"
    assert swarm(home, "consensus", "verify", str(path)).returncode == 0
    stranger = swarm(tmp_path, "consensus", "verify", str(path))
    assert stranger.returncode == 2 and "--keys" in stranger.stderr

    before = answer(home, "consensus", "log")["decisions"]
    nowhere = swarm(home, "consensus", "propose", "note", "x", "--export", str(tmp_path / "none" / "d.json"))
    assert nowhere.returncode == 2 and "nothing was proposed" in nowhere.stderr
    assert answer(home, "consensus", "log")["decisions"] == before

    replaced = answer(home, "consensus", "replace", "consensus-2")
    assert replaced["voters"] == ["consensus-1", "consensus-3", "consensus-4", "consensus-5"]
    replicas = answer(home, "consensus", "status")["replicas"]
    assert sorted(one["name"] for one in replicas if one["voter"] is not None) == replaced["voters"]
    assert swarm(home, "consensus", "replace", "consensus-2").returncode == 2
    assert answer(home, "consensus", "propose", "note", "goes on")["epoch"] == 1
    assert swarm(home, "consensus", "verify", str(path)).returncode == 0


def test_the_keys_of_voters_who_have_all_left_move_neither_the_gate_nor_a_client(home: Path) -> None:
    for name in ("consensus-1", "consensus-3"):
        replaced = answer(home, "consensus", "replace", name)
    assert not {"consensus-1", "consensus-2", "consensus-3"} & set(replaced["voters"])
    found = said_by(home, FORGERY, *replaced["voters"])
    assert (found["left"], found["client"], found["gate"]) == (True, 3, True)
    assert "knows nothing of the committee's epoch 3" in found["forged"]
    assert found["halted"] == ["AAPL"]
    assert found["shown at 1"] == 0  # no signature tells it from what was decided there
    assert found["shown at 1000000"] is None
    assert found["moved"].startswith("Undecided")
    assert found["done"] == 3
    assert answer(home, "gate", "status")["epoch"] == 3

    file = home / "consensus" / "epochs.json"
    file.write_text("{")
    refused = swarm(home, "consensus", "log")
    assert refused.returncode == 2 and "epochs.json" in refused.stderr and "delete it" in refused.stderr
    file.unlink()
    assert answer(home, "consensus", "status")["epoch"] == 3
    assert file.exists()


def test_down_ends_every_process_and_file_of_its_ray_after_the_launcher_was_killed(
    home: Path, traces_of_home: Traces
) -> None:
    down_ends_every_process_and_file_of_its_ray(home, traces_of_home, launcher_lives=False)
    kept = ["config.toml", "consensus", "gate", "lock", "ray.log", "snapshots"]
    assert sorted(path.name for path in home.iterdir()) == kept
