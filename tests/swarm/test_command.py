"""The command as a user runs it: real processes, a real Ray of its own, exit codes, and nothing left behind."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import head, session
from consensus import decisions
from consensus.seats import Seat
from consensus.simplex.crypto import Signer
from consensus.simplex.types import Committee, Kind, Vote, encode, vote_bytes
from tests.conftest import eventually

SWARM = [sys.executable, "-m", "swarm.cli.main"]
TIMEOUT_S = 120
MANDATED = Path(__file__).parents[2] / "swarm" / "examples" / "mandated.toml"


def swarm(home: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*SWARM, *arguments],
        env={**os.environ, "SWARM_HOME": str(home), **environment},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def answer(home: Path, *arguments: str) -> dict:
    done = swarm(home, *arguments, "--json")
    assert done.returncode in (0, 1, 2), done.stderr
    return json.loads(done.stdout)


def on_free_ports() -> list[str]:
    port, dashboard_port = head.free_ports(2)
    return ["--set", f"ray.port={port}", "--set", f"ray.dashboard_port={dashboard_port}"]


def left_behind() -> tuple[set[str], set[str], set[int]]:
    """What a Ray may leave: session directories, shared memory, processes."""
    sessions = {str(path) for path in Path("/tmp/ray").glob("session_2*")}
    shared = {path.name for path in Path("/dev/shm").iterdir()}
    processes = {p.pid for p in psutil.process_iter(["cmdline"]) if "ray" in " ".join(p.info["cmdline"] or [])}
    return sessions, shared, processes


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Home of a swarm that is up."""
    place = tmp_path_factory.mktemp("up")
    terminal = subprocess.Popen(
        [*SWARM, *on_free_ports(), "--set", "hub.max_restarts=1", "up"],
        env={**os.environ, "SWARM_HOME": str(place)},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
    )
    _, words = terminal.communicate(timeout=TIMEOUT_S)
    assert terminal.returncode == 0, words
    with contextlib.suppress(ProcessLookupError):
        os.killpg(terminal.pid, signal.SIGHUP)  # what the kernel does when a terminal closes
    yield place
    assert swarm(place, "down").returncode == 0


def test_demo_beside_a_running_swarm_prints_its_report_and_leaves_nothing_behind(home: Path, tmp_path: Path) -> None:
    record = session.read(home)
    assert record is not None
    before = left_behind()
    done = swarm(tmp_path, "demo", RAY_ADDRESS=record.address)
    assert done.returncode == 0, done.stderr
    for words in (
        "COMPREHENSIVE, complete",
        "Lehman and after, 2008",
        "liquidity adjusted var",
        "risk-balanced",
        "Correlation picture",
        "Days to liquidate",
        "no volume or price is known for UNH",
        "value_at_risk  ok",
    ):
        assert words in done.stdout
    assert answer(home, "status")["health"]["calculations"] == 0
    after = left_behind()
    assert after[0] <= before[0] and after[1] <= before[1]
    assert eventually(lambda: not {p for p in left_behind()[2] - before[2] if psutil.pid_exists(p)})
    assert not list(tmp_path.iterdir())


def test_up_survives_its_terminal_and_health_is_zero(home: Path) -> None:
    found = json.loads(swarm(home, "health", "--json", RAY_ADDRESS="127.0.0.1:1").stdout)
    assert found["state"] == "healthy" and found["problems"] == []
    assert [agent["agent_id"] for agent in found["agents"]][:2] == ["hub", "market_data"]
    assert swarm(home, "health").returncode == 0
    record = session.read(home)
    assert record is not None and record.launcher is not None and record.launcher.alive()


def test_every_agent_is_a_named_ray_actor(home: Path) -> None:
    record = session.read(home)
    assert record is not None
    listed = subprocess.run(
        [sys.executable, "-m", "ray.scripts.scripts", "list", "actors", "--format", "json", "--filter", "state=ALIVE"],
        env={**os.environ, "RAY_ADDRESS": record.address, "RAY_AUTH_MODE": "token"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    actors = {actor["name"]: actor for actor in json.loads(listed.stdout)}
    names = ["correlation", "gate", "hub", "liquidity", "market_data", "portfolio", "stress", "value_at_risk"]
    assert sorted(actors) == names, listed.stderr
    assert {actor["ray_namespace"] for actor in actors.values()} == {"riskswarm"}
    assert actors["value_at_risk"]["class_name"] == "ValueAtRiskAgent"


def test_risk_of_equal_weights_reproduces_the_reference(home: Path) -> None:
    found = answer(home, "risk", "--calc", "var")
    estimates = found["answers"]["value_at_risk"]["report"]["estimates"]
    values = {(e["measure"], e["confidence"]): e["value"] for e in estimates if e["method_label"] == "historical"}
    reference = {
        ("var", 0.95): 0.017451735440,
        ("cvar", 0.95): 0.027151732679,
        ("var", 0.99): 0.031384567543,
        ("cvar", 0.99): 0.045772428823,
    }
    assert {measure for measure, _ in values.keys() - reference.keys()} == {"evar"}
    assert all(math.isclose(values[key], reference[key], rel_tol=1e-9) for key in reference)


def test_risk_of_a_file_on_prices_of_a_file_as_of_a_date(home: Path, tmp_path: Path) -> None:
    prices = tmp_path / "prices.csv"
    rows = [f"2021-{m:02d}-{d:02d},{100 + (d % 7)},{50 + (m * d) % 5}" for m in range(1, 13) for d in range(1, 29)]
    prices.write_text("date,AAA,BBB\n" + "\n".join(rows) + "\n")
    book = tmp_path / "book.csv"
    book.write_text("symbol,weight\nAAA,0.5\nBBB,0.5\n")
    arguments = ["risk", "--portfolio", str(book), "--prices", str(prices), "--calc", "var", "--as-of", "2021-06-28"]
    found = answer(home, *arguments, "--confidence", "0.9", "--horizon", "2")
    assert found["as_of"] == "2021-06-28" and found["portfolio"] == "book"
    assert {e["confidence"] for e in found["answers"]["value_at_risk"]["report"]["estimates"]} == {0.9}
    assert answer(home, "data", "show")["source"].startswith("bundled")


def test_position_in_another_currency_carries_the_rate_too(home: Path, tmp_path: Path) -> None:
    """Of a bond that never moves and a rate that does, everything lost is lost by the rate."""
    prices = tmp_path / "prices.csv"
    moves = [0.01 * math.sin(1.7 * day) for day in range(300)]
    days = [f"{2019 + day // 250}-{day // 25 % 10 + 1:02d}-{day % 25 + 1:02d}" for day in range(300)]
    rows, rate, share = [], 1.1, 20.0
    for day, move in zip(days, moves, strict=True):
        rate, share = rate * (1 + move), share * (1 + 1e-9)
        rows.append(f"{day},{share:.12f},{rate:.12f},{rate:.12f}")
    prices.write_text("date,BOND,EURUSD,TWIN\n" + "\n".join(rows) + "\n")
    for name, line in (("foreign", "BOND,1.0,EUR"), ("rate", "TWIN,1.0,USD")):
        (tmp_path / f"{name}.csv").write_text(f"symbol,weight,currency\n{line}\n")
    arguments = ["--prices", str(prices), "--calc", "var", "--confidence", "0.95"]
    first, second = (
        answer(home, "risk", "--portfolio", str(tmp_path / f"{name}.csv"), *arguments)["answers"]["value_at_risk"][
            "report"
        ]["estimates"][0]["value"]
        for name in ("foreign", "rate")
    )
    assert first == pytest.approx(second, rel=1e-5)
    assert first > 0.005
    (tmp_path / "unknown.csv").write_text("symbol,weight,currency\nBOND,1.0,CHF\n")
    refused = swarm(home, "risk", "--portfolio", str(tmp_path / "unknown.csv"), *arguments)
    assert refused.returncode == 2
    assert "CHFUSD" in " ".join(refused.stderr.split())


def test_every_method_of_a_mandated_book_is_answered_and_its_breaches_are_alerts(home: Path) -> None:
    found = answer(home, "risk", "--portfolio", str(MANDATED), "--method", "all", "--target-loss", "0.1")
    assert found["completeness"] == 1.0
    assert {alert["kind"] for alert in found["alerts"]} >= {"limit_breach"}
    assert all(alert["value"] > alert["limit"] for alert in found["alerts"] if alert["kind"] == "limit_breach")
    labels = {e["method_label"] for e in found["answers"]["value_at_risk"]["report"]["estimates"]}
    assert {"historical", "gaussian", "gpd"} <= labels
    proposals = found["answers"]["portfolio"]["report"]["proposals"]
    assert proposals
    assert all(use["met"] for proposal in proposals for use in proposal["constraints"])
    assert {"historical", "gpd", "qmc_sobol"} <= set(answer(home, "methods")["value_at_risk"])


def test_report_is_one_page_with_all_five_agents_and_needs_nothing_else(home: Path, tmp_path: Path) -> None:
    page = tmp_path / "risk.html"
    done = swarm(home, "report", "--portfolio", str(MANDATED), "--html", str(page), "--no-backtest")
    assert done.returncode == 0, done.stderr
    words = page.read_text()
    for title in ("Tail risk", "Stress", "Correlation", "Liquidity"):
        assert f"{title}</h2>" in words
    assert "example mandated" in words
    assert not re.search(r"<(?:script|link|img|iframe)[^>]+(?:src|href)=.?https?:", words)
    assert "NaN" not in re.sub(r"<script.*?</script>", "", words, flags=re.DOTALL)


def test_report_that_cannot_be_written_is_refused_before_anything_is_calculated(home: Path, tmp_path: Path) -> None:
    done = swarm(home, "report", "--portfolio", str(MANDATED), "--html", str(tmp_path / "none" / "risk.html"))
    assert done.returncode == 2
    assert "none" in done.stderr


def test_status_agents_and_data_speak_of_this_swarm(home: Path) -> None:
    assert answer(home, "status")["health"]["state"] == "healthy"
    pids = {agent["agent_id"]: agent["pid"] for agent in answer(home, "agents")["agents"]}
    assert all(psutil.pid_exists(pid) for pid in pids.values())
    listed = answer(home, "data", "list")
    assert listed["current"] in {snapshot["snapshot_id"] for snapshot in listed["snapshots"]}


def test_gate_is_asked_limited_killed_and_read_by_its_commands(home: Path) -> None:
    check = ["gate", "check", "--symbol", "AAPL", "--side", "buy", "--json", "--quantity"]
    stale = swarm(home, *check, "100")
    assert stale.returncode == 10 and json.loads(stale.stdout)["reason"] == "STALE_DATA"
    changes = ["stale_after_s=600", "max_gross=100000"]
    limits = answer(home, "gate", "limits", *changes, "--reason", "drill")
    assert limits["changed"] == ["max_gross", "stale_after_s"]
    assert swarm(home, "gate", "tick", "--last").returncode == 0
    allowed = swarm(home, *check, "100", "--durable")
    found = json.loads(allowed.stdout)
    assert allowed.returncode == 0 and found["decision"] == "ALLOW"
    names = [line["check"] for line in found["checks"]]
    assert names[:2] == ["KILLED", "LIMITS_UNREADABLE"] and names[-1] == "STALE_DATA" and len(names) == 25
    assert {line["result"] for line in found["checks"]} == {"passed"}
    reduced = swarm(home, *check, "5000")
    assert reduced.returncode == 11 and json.loads(reduced.stdout)["reason"] == "GROSS"
    assert swarm(home, "gate", "kill", "--reason", "drill").returncode == 0
    killed = swarm(home, *check[:-2], "--quantity", "1")
    assert killed.returncode == 10 and "kill switch is latched" in killed.stdout
    assert re.search(r"KILLED +failed", killed.stdout) and re.search(r"LIMITS_UNREADABLE +not reached", killed.stdout)
    assert swarm(home, "gate", "release", "--reason", "drill is over").returncode == 0
    rows = answer(home, "gate", "journal", "-n", "3")
    assert [row["reason"] for row in rows["journal"]] == ["KILLED", "GROSS", "PASSED"]
    assert [row["action"] for row in rows["control"]] == ["release_kill", "kill", "limits"]
    assert rows["control"][1]["reason"] == "drill"


def test_gate_commands_without_a_gate_say_so(tmp_path: Path) -> None:
    assert swarm(tmp_path, "gate", "status").returncode == 3
    assert swarm(tmp_path, "gate", "journal").returncode == 1
    done = swarm(tmp_path, "gate", "kill", "--json")
    assert done.returncode == 0 and json.loads(done.stdout)["closed"] is False
    book = tmp_path / "book.toml"
    book.write_text("[accounts.main]\ncash = 'much'\n")
    refused = swarm(tmp_path, "--set", f"gate.book={book}", *on_free_ports(), "up")
    assert refused.returncode == 2 and "cash" in refused.stderr


def test_client_of_another_process_finds_the_swarm_by_its_home(home: Path) -> None:
    script = (
        "from swarm import SwarmClient, Portfolio\n"
        "with SwarmClient() as client:\n"
        "    print(client.calculate(Portfolio.from_weights({'AAPL': 1.0}), 'var').estimate('var', 0.95).value)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "SWARM_HOME": str(home)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert 0.01 < float(done.stdout) < 0.1, done.stderr


def test_a_book_is_watched_and_ticks_come_and_go_by_commands(home: Path) -> None:
    book = str(MANDATED.with_name("long_only.toml"))
    assert swarm(home, "watch", "--portfolio", book, "--limit", "luck=1", "--seconds", "0").returncode == 2
    begun = swarm(home, "watch", "--portfolio", book, "--limit", "drawdown=0.01", "--seconds", "0", "--json")
    assert begun.returncode == 0, begun.stderr
    counts = json.loads(begun.stdout.splitlines()[-1])["figures"]["counts"]
    assert {name: count["ticks"] for name, count in counts.items()} == dict.fromkeys(counts, 0)
    asked = ("--from", "2022-01-03", "--to", "2022-12-28", "--speed", "0")
    assert answer(home, "ticks", "replay", *asked)["source"] == "replay"
    done = swarm(home, "watch", "--seconds", "1", "--interval", "0.5", "--json")
    assert done.returncode == 0, done.stderr
    figures = [line["figures"] for line in map(json.loads, done.stdout.splitlines()) if "figures" in line]
    assert figures[-1]["counts"]["value_at_risk"]["ticks"] == 249 * 20
    shown = swarm(home, "watch", "--seconds", "0")
    assert shown.returncode == 0 and "drawdown" in shown.stdout and "2022-12-28 21:00" in shown.stdout
    assert answer(home, "ticks", "stop", "--forget")["written"] == 249 * 20
    assert swarm(home, "watch", "--end").returncode == 0


def test_second_up_is_refused_and_the_first_goes_on(home: Path) -> None:
    before = session.session_path(home).read_bytes()
    done = swarm(home, "up")
    assert done.returncode == 4 and "is recorded in" in done.stderr and "swarm down" in done.stderr
    assert session.session_path(home).read_bytes() == before
    assert swarm(home, "health").returncode == 0


def test_second_swarm_on_the_same_ray_is_refused_and_the_first_goes_on(home: Path, tmp_path: Path) -> None:
    record = session.read(home)
    assert record is not None
    done = swarm(tmp_path, "up", "--address", record.address)
    assert done.returncode == 4 and "already lives in namespace riskswarm" in " ".join(done.stderr.split())
    assert not session.session_path(tmp_path).exists()
    assert swarm(home, "health").returncode == 0


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


def test_swarm_on_a_joined_ray_ends_its_own_actors_and_leaves_all_else_alone(home: Path, tmp_path: Path) -> None:
    record = session.read(home)
    assert record is not None
    other = ["--set", "namespace=other"]
    assert foreign(record.address, "make", "mine") == "True"
    assert swarm(tmp_path, *other, "up", "--address", record.address).returncode == 0
    assert answer(tmp_path, *other, "risk", "--calc", "liquidity")["completeness"] == 1.0
    assert "is down" in swarm(tmp_path, *other, "down").stdout
    done = swarm(tmp_path, *other, "health", "--address", record.address)
    assert done.returncode == 2 and "no `hub` actor lives in namespace other" in " ".join(done.stdout.split())
    assert foreign(record.address, "ask", "mine") == "True"
    assert swarm(home, "health").returncode == 0


TOLD = """
import ray, sys
ray.init(address=sys.argv[1], namespace="committee", log_to_driver=False, logging_level="ERROR")
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


def test_a_swarm_comes_up_without_one_voter_of_four_and_says_so_and_not_without_two(home: Path, tmp_path: Path) -> None:
    """And whoever has that voter's key, which others could read, is proved guilty and quarantined by the three."""
    record = session.read(home)
    assert record is not None
    committee, seats, signers = founded(tmp_path)
    options = ["--set", "namespace=committee", "--set", "consensus.voters=4"]
    seats[3].key.chmod(0o644)
    done = swarm(tmp_path, *options, "up", "--address", record.address)
    assert done.returncode == 0, done.stderr
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
        [sys.executable, "-c", TOLD, record.address, "3", *words],
        env={**os.environ, "RAY_AUTH_MODE": "token"},
        timeout=TIMEOUT_S,
        check=True,
    )
    assert eventually(lambda: len(evidence()) == 1)
    (proof,) = evidence()
    assert (proof["culprit"], proof["epoch"], proof["what"]) == (3, 0, "ConflictingVotes")

    def alerts() -> dict[str, dict]:
        found = answer(tmp_path, *options, "health")["alerts"]
        return {alert["kind"]: alert for alert in found if alert["subject"] == "consensus-4"}

    assert eventually(lambda: {"byzantine_fault", "voter_quarantined"} <= alerts().keys())
    assert alerts()["byzantine_fault"]["proof"] == proof["sha256"]
    shown = " ".join(swarm(tmp_path, *options, "alerts").stdout.split())
    assert "consensus-4, is proved faulty: ConflictingVotes" in shown and proof["sha256"][:12] in shown
    assert answer(tmp_path, *options, "consensus", "propose", "raise_limit", "var 0.04")["epoch"] == 1
    assert swarm(tmp_path, *options, "down").returncode == 0

    seats[2].key.rename(seats[2].key.with_suffix(".away"))
    done = swarm(tmp_path, *options, "up", "--address", record.address)
    said = " ".join(done.stderr.split())
    assert done.returncode == 7 and "consensus-3 is DEAD" in said and "is missing" in said
    assert "consensus-4 is DEAD" in said and not session.session_path(tmp_path).exists()


def test_name_that_somebody_holds_is_a_conflict_and_stays_his(home: Path, tmp_path: Path) -> None:
    record = session.read(home)
    assert record is not None
    assert foreign(record.address, "make", "stress") == "True"
    done = swarm(tmp_path, "--set", "namespace=other", "up", "--address", record.address)
    assert done.returncode == 4 and "an actor named stress already lives" in " ".join(done.stderr.split())
    assert foreign(record.address, "end", "stress") == "True"
    assert not session.session_path(tmp_path).exists()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
@pytest.mark.parametrize("moment", ["Ray is starting", "the roster is starting"])
def test_up_that_is_interrupted_leaves_nothing(tmp_path: Path, number: signal.Signals, moment: str) -> None:
    before = left_behind()
    command = subprocess.Popen(
        [*SWARM, *on_free_ports(), "up"],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    log = tmp_path / "ray.log"
    if moment == "Ray is starting":
        assert eventually(log.exists)
    else:
        assert eventually(lambda: log.exists() and "Ray runtime started" in log.read_text())
    command.send_signal(number)
    assert command.wait(timeout=TIMEOUT_S) != 0
    assert not session.session_path(tmp_path).exists()
    assert eventually(lambda: left_behind()[0] <= before[0])
    assert eventually(lambda: not left_behind()[2] - before[2])


def test_store_that_cannot_be_written_fails_the_boot_at_once_and_leaves_nothing(home: Path, tmp_path: Path) -> None:
    record = session.read(home)
    assert record is not None
    (tmp_path / "snapshots").write_text("in the way")
    done = swarm(tmp_path, "--set", "namespace=third", "up", "--address", record.address)
    words = " ".join(done.stderr.split())
    assert done.returncode == 7 and "market_data is DEAD: cannot initialise" in words
    assert "Traceback" not in words
    assert not session.session_path(tmp_path).exists()


def test_listener_that_is_no_ray_is_said_to_be_none(tmp_path: Path) -> None:
    with socket.socket() as mute:
        mute.bind(("127.0.0.1", 0))
        mute.listen()
        done = swarm(tmp_path, "risk", "--address", f"127.0.0.1:{mute.getsockname()[1]}", "--json")
    assert done.returncode == 3 and "no Ray answers" in done.stderr
    assert json.loads(done.stdout)["error"]["kind"] == "SwarmUnavailable"


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


@pytest.mark.parametrize("name", REFUSED)
def test_bad_input_is_one_message_and_an_exit_code(tmp_path: Path, name: str) -> None:
    arguments, code, words = REFUSED[name]
    done = swarm(tmp_path, *arguments)
    assert done.returncode == code
    assert words in " ".join(done.stderr.split())
    assert "Traceback" not in done.stderr and done.stdout == ""


def test_unhealthy_answers_exit_with_two_where_nothing_runs(tmp_path: Path) -> None:
    done = swarm(tmp_path, "health", "--json")
    assert done.returncode == 2
    assert json.loads(done.stdout)["state"] == "down"


@pytest.mark.parametrize("setting", ["ray.port", "ray.dashboard_port"])
def test_taken_port_is_named_and_nothing_is_started(tmp_path: Path, setting: str) -> None:
    before = left_behind()
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        done = swarm(tmp_path, *on_free_ports(), "--set", f"{setting}={port}", "up")
    assert done.returncode == 4 and f"port {port} is taken" in done.stderr and setting in done.stderr
    assert not session.session_path(tmp_path).exists()
    assert left_behind()[0] <= before[0]


def test_port_that_somebody_takes_while_ray_starts_is_named_and_nothing_is_left(tmp_path: Path) -> None:
    before = left_behind()
    (port,) = head.free_ports(1)
    command = subprocess.Popen(
        [*SWARM, *on_free_ports(), "--set", f"ray.port={port}", "up"],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert eventually((tmp_path / "ray.log").exists)  # the port was found free, and Ray takes a while to come to it
    with socket.socket() as quicker:
        quicker.bind(("", port))
        quicker.listen()
        _, words = command.communicate(timeout=TIMEOUT_S)
    assert command.returncode == 4 and f"port {port} is taken" in words and "ray.port" in words
    assert not session.session_path(tmp_path).exists()
    assert left_behind()[0] <= before[0]


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


def test_agent_that_keeps_dying_is_parked_and_health_degrades(home: Path) -> None:
    def stress() -> dict:
        return next(agent for agent in answer(home, "health")["agents"] if agent["agent_id"] == "stress")

    for restarts in (1, 2):
        os.kill(stress()["pid"], signal.SIGKILL)
        assert eventually(lambda restarts=restarts: stress()["restarts"] == restarts)
    assert eventually(lambda: stress()["reason"].startswith("parked"))
    done = swarm(home, "health")
    assert done.returncode == 1 and "parked: more than 1 restarts" in " ".join(done.stdout.split())
    found = answer(home, "risk")
    assert found["completeness"] == 0.8 and "parked" in found["answers"]["stress"]["reason"]
    (alert,) = answer(home, "alerts")["open"]
    assert (alert["kind"], alert["priority"], alert["subject"]) == ("agent_failure", "high", "stress")
    followed = swarm(home, "alerts", "--follow", "--seconds", "0", "--json")
    keys = [json.loads(line)["alert"]["dedup_key"] for line in followed.stdout.splitlines()]
    assert keys == ["agent_failure:stress:dead", "agent_failure:stress:parked"]
    assert "parked: more than 1 restarts" in " ".join(swarm(home, "alerts").stdout.split())

    hub = next(agent for agent in answer(home, "health")["agents"] if agent["agent_id"] == "hub")
    os.kill(hub["pid"], signal.SIGKILL)
    assert eventually(lambda: answer(home, "health").get("hub_restarted") is True)
    assert eventually(lambda: answer(home, "health")["state"] == "degraded")
    assert "it was parked before the hub restarted" in stress()["reason"]
    assert [alert["subject"] for alert in answer(home, "alerts")["open"]] == ["stress"]
    assert answer(home, "risk")["completeness"] == 0.8


@pytest.mark.parametrize("launcher", ["alive", "killed"])
def test_down_ends_every_process_and_file_of_its_ray(tmp_path: Path, launcher: str) -> None:
    before = left_behind()
    assert swarm(tmp_path, *on_free_ports(), "up").returncode == 0
    record = session.read(tmp_path)
    assert record is not None and record.launcher is not None
    started = psutil.Process(record.launcher.pid).children(recursive=True)
    assert len(started) > 7 and Path(record.ray_session_dir).exists()
    script = "import sys; from swarm import SwarmClient; c = SwarmClient(); print('in', flush=True); sys.stdin.read()"
    bystander = subprocess.Popen(
        [sys.executable, "-c", script],
        env={**os.environ, "SWARM_HOME": str(tmp_path)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert bystander.stdout is not None and bystander.stdout.readline() == "in\n"
    if launcher == "killed":
        os.kill(record.launcher.pid, signal.SIGKILL)
        assert swarm(tmp_path, "health").returncode == 2
        assert swarm(tmp_path, "up").returncode == 4
    assert swarm(tmp_path, "down").returncode == 0
    bystander.communicate(timeout=TIMEOUT_S)
    assert bystander.returncode != -signal.SIGTERM, "a client is nobody's to end"
    assert not [process for process in started if process.is_running() and process.status() != psutil.STATUS_ZOMBIE]
    assert left_behind()[0] <= before[0] and left_behind()[1] <= before[1]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["gate", "lock", "ray.log", "snapshots"]
