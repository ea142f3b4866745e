"""A swarm with a committee, by its commands: they open its gate, decide, verify, and put others in a voter's place."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.swarm.test_command import SWARM, TIMEOUT_S, answer, on_free_ports, swarm

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


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home of a swarm of four voters that is up."""
    place = tmp_path_factory.mktemp("committee")
    (place / "config.toml").write_text("[consensus]\nvoters = 4\ndeadline_s = 4.0\n")
    terminal = subprocess.Popen(
        [*SWARM, *on_free_ports(), "up"],
        env={**os.environ, "SWARM_HOME": str(place)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, words = terminal.communicate(timeout=TIMEOUT_S)
    assert terminal.returncode == 0, words
    with contextlib.suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGHUP)
    yield place
    assert swarm(place, "down").returncode == 0


def test_a_kill_is_released_by_the_committee_and_by_nobody_while_it_has_no_quorum(home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        env={**os.environ, "SWARM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout.splitlines()[-1])
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
