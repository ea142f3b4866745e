"""Commands where no swarm answers: one message, an exit code, and a way out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import session
from tests.swarm.commands import TIMEOUT_S, on_free_ports, swarm

REFUSED = {
    "unknown setting": (["--set", "hub.deadlin=1", "config", "show"], 2, "Did you mean hub.deadline_s"),
    "bad setting": (["--set", "hub.deadline_s=soon", "config", "show"], 2, "hub.deadline_s"),
    "missing portfolio": (["risk", "--portfolio", "nowhere.csv"], 2, "nowhere.csv cannot be read"),
    "missing prices": (["data", "check", "nowhere.csv"], 2, "nowhere.csv cannot be read"),
    "unknown calculation": (["risk", "--calc", "magic"], 2, "'magic' is unknown"),
    "reserved port": (["--set", "ray.port=10500", "up"], 4, "keeps for itself"),
    "deadline": (["risk", "--deadline", "nan"], 3, "no swarm is recorded"),
    "no swarm": (["risk"], 3, "no swarm is recorded"),
    "no command": (["fly"], 2, "No such command"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_message_and_an_exit_code(tmp_path: Path, name: str) -> None:
    arguments, code, words = REFUSED[name]
    done = swarm(tmp_path, *arguments)
    assert done.returncode == code
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_what_asks_nothing_loads_neither_ray_nor_compilers() -> None:
    """So that help, completion and refusals come at once."""
    asked = "import sys, swarm.cli.main; print({'ray', 'numba', 'torch', 'scipy'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", asked], capture_output=True, text=True, timeout=TIMEOUT_S, check=True)
    assert done.stdout.strip() == "set()"


def test_unhealthy_answers_exit_with_two_where_nothing_runs(tmp_path: Path) -> None:
    done = swarm(tmp_path, "health", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["state"] == "down"


def test_listener_that_is_no_ray_is_said_to_be_none(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        done = swarm(tmp_path, "risk", "--address", f"127.0.0.1:{mute.getsockname()[1]}", "--json")
    assert done.returncode == 3 and "no Ray answers" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "SwarmUnavailable"


def test_gate_commands_without_a_gate_say_so(tmp_path: Path) -> None:
    assert swarm(tmp_path, "gate", "status").returncode == 3
    assert swarm(tmp_path, "gate", "journal").returncode == 1
    done = swarm(tmp_path, "gate", "kill", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["closed"] is False
    book = tmp_path / "book.toml"
    book.write_text("[accounts.main]\ncash = 'much'\n")
    refused = swarm(tmp_path, "--set", f"gate.book={book}", *on_free_ports(), "up")
    assert refused.returncode == 2 and "cash" in refused.stderr


def test_stale_record_is_said_refused_and_cleared_by_down(tmp_path: Path) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
    process = session.Process.of(child.pid)
    child.kill()
    child.wait()
    session.write(tmp_path, session.Session("127.0.0.1:1", "riskswarm", "2026-01-01", process, "", ""))
    for arguments, code in ((["up"], 4), (["risk"], 3), (["health"], 2)):
        done = swarm(tmp_path, *arguments)
        assert done.returncode == code and "swarm down" in done.stderr + done.stdout
    assert "had died" in swarm(tmp_path, "down").stdout
    assert not session.session_path(tmp_path).exists()
    assert "nothing to do" in swarm(tmp_path, "down").stdout


@pytest.mark.parametrize("record", ["{", '{"layout_version": 1}', "directory"])
def test_unreadable_record_is_refused_and_set_aside_by_down(tmp_path: Path, record: str) -> None:
    if record == "directory":
        session.session_path(tmp_path).mkdir()
    else:
        session.session_path(tmp_path).write_text(record)
    assert swarm(tmp_path, "up").returncode == 4
    assert "could not be read" in swarm(tmp_path, "down").stdout
    assert not session.session_path(tmp_path).exists()


def test_config_show_has_a_meaning_for_every_key_and_says_where_values_come_from(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text("[hub]\ndeadline_s = 3\nretries = 1\n")
    done = swarm(tmp_path, "--set", "hub.retries=4", "config", "show", "--json", SWARM_MARKET__SPIKE_RETURN="0.4")
    rows = {row["key"]: row for row in json.loads(done.stdout)["settings"]}
    assert rows["hub.deadline_s"]["value"] == 3 and rows["hub.deadline_s"]["origin"].endswith("config.toml")
    assert rows["hub.retries"]["value"] == 4 and rows["hub.retries"]["origin"] == "command line"
    assert rows["market.spike_return"]["origin"] == "environment SWARM_MARKET__SPIKE_RETURN"
    assert all(row["meaning"] for row in rows.values())


def test_shell_completion_knows_the_commands(tmp_path: Path) -> None:
    done = subprocess.run(
        [str(Path(sys.executable).parent / "swarm")],
        env={**os.environ, "_SWARM_COMPLETE": "complete_bash", "COMP_WORDS": "swarm ri", "COMP_CWORD": "1"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.stdout.split() == ["risk"]
