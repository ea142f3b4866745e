"""The command as a user runs it: real processes, a swarm of its own that answers, exit codes."""

from __future__ import annotations

import json
import math
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from cluster import session
from tests.conftest import eventually
from tests.swarm.commands import (
    MANDATED,
    TIMEOUT_S,
    Traces,
    answer,
    brought_up,
    comes_to,
    down_ends_every_process_and_file_of_its_ray,
    swarm,
)

PARKED_AT_ONCE = ("--set", "hub.max_restarts=1", "--set", "hub.restart_window_s=3600")
"""An agent that dies a second time is parked, however long this machine takes to see that it died."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory, traces_of_home: Traces) -> Iterator[Path]:
    """Home of a swarm that is up."""
    with brought_up(tmp_path_factory.mktemp("up"), *PARKED_AT_ONCE) as place:
        yield place


def test_demo_beside_a_running_swarm_prints_its_report_and_leaves_nothing_behind(
    home: Path, tmp_path: Path, traces: Traces
) -> None:
    record = session.read(home)
    assert record is not None
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
    assert eventually(lambda: not traces.processes()), traces.processes()
    assert not traces.files()
    assert not list(tmp_path.iterdir())


def test_up_survives_its_terminal_and_health_is_zero(home: Path) -> None:
    assert comes_to(home, "health.state == 'healthy'")
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
    assert (stale.returncode, json.loads(stale.stdout)["reason"]) == (10, "STALE_DATA"), stale.stdout
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
    assert (reduced.returncode, json.loads(reduced.stdout)["reason"]) == (11, "GROSS"), reduced.stdout
    assert swarm(home, "gate", "kill", "--reason", "drill").returncode == 0
    killed = swarm(home, *check[:-2], "--quantity", "1")
    assert killed.returncode == 10 and "kill switch is latched" in killed.stdout
    assert re.search(r"KILLED +failed", killed.stdout) and re.search(r"LIMITS_UNREADABLE +not reached", killed.stdout)
    assert swarm(home, "gate", "release", "--reason", "drill is over").returncode == 0
    rows = answer(home, "gate", "journal", "-n", "3")
    assert [row["reason"] for row in rows["journal"]] == ["KILLED", "GROSS", "PASSED"]
    assert [row["action"] for row in rows["control"]] == ["release_kill", "kill", "limits"]
    assert rows["control"][1]["reason"] == "drill"


def test_client_of_another_process_finds_the_swarm_by_its_home(home: Path) -> None:
    script = (
        "import os, ray\n"
        "from swarm import SwarmClient, Portfolio\n"
        "with SwarmClient() as client:\n"
        "    print(ray.get(ray.remote(num_cpus=0)(lambda: os.nice(0)).remote(), timeout=60) - os.nice(0))\n"
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
    nicer, value = done.stdout.splitlines()[-2:]
    assert 0.01 < float(value) < 0.1, done.stderr
    assert int(nicer) == 0, "workers of our Ray are as nice as any other process"


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


def test_agent_that_keeps_dying_is_parked_and_health_degrades(home: Path) -> None:
    def stress() -> dict:
        return next(agent for agent in answer(home, "health")["agents"] if agent["agent_id"] == "stress")

    for restarts in (1, 2):
        os.kill(stress()["pid"], signal.SIGKILL)
        assert comes_to(home, f"agents['stress'].restarts == {restarts}")
    assert comes_to(home, "agents['stress'].reason.startswith('parked')")
    done = swarm(home, "health")
    assert done.returncode == 1 and "parked: more than 1 restarts" in " ".join(done.stdout.split())
    found = answer(home, "risk")
    assert found["completeness"] == 0.8 and "parked" in found["answers"]["stress"]["reason"]
    (alert,) = answer(home, "alerts")["open"]
    assert (alert["kind"], alert["priority"], alert["subject"]) == ("agent_failure", "high", "stress")
    followed = swarm(home, "alerts", "--follow", "--seconds", "0", "--json")
    keys = [json.loads(line)["alert"]["dedup_key"] for line in followed.stdout.splitlines()]
    # On a busy machine others may have seemed dead for a while, and this one may have been well between its deaths.
    of_stress = list(dict.fromkeys(key for key in keys if ":stress:" in key))
    assert of_stress == ["agent_failure:stress:dead", "agent_failure:stress:parked"]
    assert "parked: more than 1 restarts" in " ".join(swarm(home, "alerts").stdout.split())

    hub = next(agent for agent in answer(home, "health")["agents"] if agent["agent_id"] == "hub")
    os.kill(hub["pid"], signal.SIGKILL)
    assert comes_to(home, "health.hub_restarted and health.state == 'degraded'")
    assert "it was parked before the hub restarted" in stress()["reason"]
    assert [alert["subject"] for alert in answer(home, "alerts")["open"]] == ["stress"]
    assert answer(home, "risk")["completeness"] == 0.8


def test_down_ends_every_process_and_file_of_its_ray(home: Path, traces_of_home: Traces) -> None:
    down_ends_every_process_and_file_of_its_ray(home, traces_of_home, launcher_lives=True)
    assert sorted(path.name for path in home.iterdir()) == ["gate", "lock", "ray.log", "snapshots"]
