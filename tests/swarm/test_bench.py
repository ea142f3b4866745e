"""What a benchmark leaves behind: percentiles as stated, goals judged as stated, a page made from artefacts alone."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from cluster.errors import InvalidRequest
from swarm.bench import consensus, record

ROW_KEYS = {"name", "params", "unit", "p50", "p90", "p99", "max", "samples", "goal", "met", "peer", "ratio"}


def test_row_states_percentiles_goal_and_ratio_to_its_peer() -> None:
    samples = list(np.linspace(1, 101, 101))
    peer = record.row("bare", [2.0, 2.0, 2.0], unit="ms")
    good = record.row("full", samples, unit="ms", goal=("p99", 100.5), peer=peer)
    assert (good.p50, good.p90, good.p99, good.max, good.samples) == (51.0, 91.0, 100.0, 101.0, 101)
    assert good.met is True and good.ratio == 25.5 and good.peer == "bare"
    assert record.row("full", samples, unit="ms", goal=("p99", 99.0)).met is False
    assert record.row("full", samples, unit="ms").met is None
    skewed = [1.0, 1.0, 1.0, 97.0]
    assert [record.row("a batch", skewed, unit="ms", goal=(of, 20.0)).met for of in ("p50", "mean")] == [True, False]


@pytest.mark.parametrize(("size", "timed"), [(4, {"median", "tail"}), (7, set()), (10, set())])
def test_of_committees_of_every_size_decisions_a_second_and_one_soon_after_a_death_are_asked(
    size: int, timed: set[str]
) -> None:
    for transport in consensus.TRANSPORTS:
        goals = consensus._goals(size, transport)
        assert goals.keys() == {"batch", "crash"} | timed
        assert goals["batch"] == ("mean", 320.0), "64 in that time are 200 a second"


def test_page_shows_the_newest_artefact_of_each_bench(tmp_path: Path) -> None:
    for stamp, value in (("2026-01-01T00:00:00+00:00", 1.0), ("2026-01-02T00:00:00+00:00", 7.25)):
        taken = record.record("hub", [record.row("a call", [value], unit="ms", goal=("p50", 5.0))])
        record.keep(record.Record(**{**taken.__dict__, "taken_utc": stamp}), tmp_path)
    (newest,) = record.newest(tmp_path)
    page = record.page([newest])
    assert "7.25" in page and "2026-01-02" in page and "| no |" in page and "2026-01-01" not in page


def test_readme_shows_every_goal_between_its_marks_and_nothing_else_changes() -> None:
    rows = [
        record.row("slow", [9.0], unit="us", goal=("p50", 5.0)),
        record.row("quick", [1.0], unit="us", goal=("p50", 5.0)),
        record.row("aimless", [3.0], unit="us"),
    ]
    table = record.summary([record.record("lanes", rows)])
    assert "| lanes | slow | p50 < 5 us | 9 us | 9 us | no |" in table and "| yes |" in table
    assert "aimless" not in table
    page = f"before\n{record.SUMMARY_BEGIN}\nold\n{record.SUMMARY_END}\nafter\n"
    made = record.into(page, table)
    assert made.startswith("before\n") and made.endswith("\nafter\n") and "old" not in made and table in made
    assert record.into(made, table) == made
    with pytest.raises(InvalidRequest, match="marks"):
        record.into("no marks here", table)


def test_bench_hub_prints_one_object_of_the_agreed_form_and_keeps_it(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-m",
            "swarm.cli.main",
            "--home",
            str(tmp_path),
            "bench",
            "hub",
            "--calculations",
            "10",
            "--json",
        ],
        capture_output=True,
        text=True,
        timeout=170,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    taken = json.loads(done.stdout)
    assert taken["bench"] == "hub" and taken["commit"] and taken["machine"]["cores"] >= 1
    assert all(set(row) == ROW_KEYS for row in taken["rows"])
    (kept,) = (tmp_path / "bench").glob("hub-*.json")
    assert json.loads(kept.read_text())["rows"] == taken["rows"]
    named = {row["name"]: row for row in taken["rows"]}
    assert named["COMPREHENSIVE, ten at a time"]["params"]["lost"] == 0
    assert named["COMPREHENSIVE through the hub"]["peer"] == "the five agents asked directly, no hub"
