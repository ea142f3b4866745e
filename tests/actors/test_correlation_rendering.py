"""The correlation section, at a terminal and on a page: what is new is shown with its interval, names are escaped."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from actors.risk.correlation import estimators
from actors.risk.correlation.settings import CorrelationSettings
from hive.messages.calculation import Parameters
from swarm.report.page import correlation as page
from swarm.report.page import document
from swarm.report.terminal import correlation as terminal

QUICK = CorrelationSettings(replications=100, spectral_replications=50, copula_days=500, dcc_days=1000, copula_pairs=2)


@pytest.fixture(scope="module")
def everything(snapshot, book):
    held = book(dict.fromkeys(("AAPL", "XOM", "JPM", "CVX"), 0.25))
    return estimators.analyse(estimators.rebuild(snapshot, QUICK), held, Parameters(methods=("all",)), QUICK)[0]


def printed(report):
    console = Console(width=140, record=True, file=io.StringIO())
    for part in terminal.section(report, None):
        console.print(part)
    return console.export_text()


def test_terminal_shows_every_part_with_intervals(everything):
    text = printed(everything)
    for said in (
        "Correlation, Ledoit-Wolf",
        "by rmt_denoised",
        "Changes called day by day (one false alarm in 1000 quiet days)",
        "Dynamic correlation, DCC(1,1) by full likelihood",
        "Copulas, book by student t",
        "Move together: ",
        f"{everything.dynamic.a.lower:.4f} .. {everything.dynamic.a.upper:.4f}",
        everything.watches[0].last.change_date,
        f"({everything.dependence.degrees.lower:.1f} .. {everything.dependence.degrees.upper:.1f})",
    ):
        assert said in text, said


def test_page_shows_every_part_and_escapes_names(everything):
    strange = replace(everything, symbols=("<b>A", "XOM", "JPM", "CVX"), clusters=(("<b>A", "XOM"),))
    html = document("correlation", page.section(strange))
    for said in ("<h3>Changes, called day by day</h3>", "<h3>Dynamic correlation</h3>", "<h3>Copulas</h3>"):
        assert said in html
    assert "&lt;b&gt;A XOM" in html
    assert "<b>A XOM" not in html


@pytest.mark.parametrize("section", [printed, lambda report: "".join(map(str, page.section(report)))])
def test_plain_report_shows_nothing_that_was_not_asked_for(everything, section):
    plain = replace(everything, watches=(), dynamic=None, dependence=None, matrices=(), clusters=(), regime=None)
    text = section(plain)
    assert "Ledoit-Wolf" in text
    for absent in ("Changes", "Dynamic", "Copulas", "Move together"):
        assert absent not in text


def test_heat_maps_stand_in_the_order_of_the_clusters(everything):
    names = [everything.symbols[place] for place in everything.order]
    figure = page._heat_map(everything)
    assert list(figure.data[0].x) == list(figure.data[0].y) == names
    np.testing.assert_array_equal(
        figure.data[0].z, everything.shrunk[np.ix_(list(everything.order), list(everything.order))]
    )
    header = next(line for line in printed(everything).splitlines() if line.split() == [n[:4] for n in names])
    assert header


def test_report_without_an_order_keeps_that_of_the_book(everything):
    figure = page._heat_map(replace(everything, order=()))
    assert tuple(figure.data[0].x) == everything.symbols
