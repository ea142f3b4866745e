"""``swarm backtest var`` and what it writes; and the section of value at risk at a terminal and on a page."""

from __future__ import annotations

import json
from io import StringIO
from pathlib import Path

import numpy as np
import pytest
import typer
from rich.console import Console, Group
from typer.testing import CliRunner

from actors.risk.value_at_risk import estimators
from actors.risk.value_at_risk.backtest import backtest
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.calculation import CalculationResult, CalculationType, Parameters
from hive.messages.portfolio import Portfolio, resolve
from swarm.cli import backtest as command
from swarm.cli.context import Context
from swarm.report.page import document
from swarm.report.page import value_at_risk as page_section
from swarm.report.page.backtest import backtest_page
from swarm.report.terminal import value_at_risk as terminal_section
from swarm.report.terminal.backtest import render


@pytest.fixture(scope="module")
def invoke(tmp_path_factory):
    app = typer.Typer()

    @app.callback()
    def _(context: typer.Context) -> None:
        context.obj = Context(home=tmp_path_factory.mktemp("nothing"), file=None, overrides=())

    app.add_typer(command.app, name="backtest")
    return lambda *arguments: CliRunner().invoke(app, ["backtest", "var", *arguments])


@pytest.fixture(scope="module")
def prices(tmp_path_factory) -> Path:
    rng = np.random.default_rng(0)
    levels = 100 * np.exp(np.cumsum(rng.normal(0, 0.01, (400, 2)), axis=0))
    days = np.datetime64("2020-01-01") + np.arange(400)
    path = tmp_path_factory.mktemp("prices") / "prices.csv"
    lines = [f"{day},{first:.4f},{second:.4f}" for day, (first, second) in zip(days, levels, strict=True)]
    path.write_text("\n".join(["date,A,B", *lines]) + "\n")
    return path


def _shown(renderable) -> str:
    console = Console(file=StringIO(), width=180)
    console.print(renderable)
    return console.file.getvalue()


def test_command_prints_one_json_object_with_every_day(invoke, prices):
    done = invoke("--prices", str(prices), "--window", "250", "--confidence", "0.95", "--json")
    assert done.exit_code == 0, done.output
    result = json.loads(done.stdout)
    assert result["portfolio"] == "equal weights"
    assert len(result["dates"]) == len(result["returns"]) == 399 - 250
    assert [model["method_label"] for model in result["models"]] == ["historical", "gaussian"]


def test_command_tests_the_portfolio_and_methods_given_and_writes_a_page(invoke, prices, tmp_path):
    held, page = tmp_path / "hedge.csv", tmp_path / "backtest.html"
    held.write_text("symbol,weight\nA,1.5\nB,-0.5\n")
    done = invoke(
        *("--prices", str(prices), "--portfolio", str(held), "--window", "250", "--html", str(page)),
        *("--method", "historical", "--method", "student_t", "--refit", "50"),
    )
    assert done.exit_code == 0, done.output
    assert "hedge" in done.stdout
    assert "student_t" in done.stdout
    assert "Diebold-Mariano" in done.stdout
    written = page.read_text()
    assert "hedge" in written
    assert "Kupiec" in written
    assert "-VaR student_t" in written


@pytest.mark.parametrize(
    "wrong", [("--confidence", "0.01"), ("--method", "guess"), ("--window", "9999"), ("--kind", "guesses")]
)
def test_command_refuses_what_cannot_be(invoke, prices, wrong):
    assert invoke("--prices", str(prices), *wrong).exit_code != 0


@pytest.fixture(scope="module")
def snapshot():
    return bundled(MarketSettings())


def _book(snapshot, name, scale=1.0):
    symbols = snapshot.symbols
    weights = dict.fromkeys(symbols, scale / len(symbols))
    held = Portfolio.from_weights(weights, value=1e6, cash=1 - scale, name=name)
    return resolve(held, symbols=symbols, currency="USD", last_prices=snapshot.last_prices)


def _report(snapshot, **asked):
    settings = ValueAtRiskSettings(window_days=1000)
    state = estimators.rebuild(snapshot, settings)
    return estimators.estimate(state, _book(snapshot, "<geared>", 3.0), Parameters(**asked), settings)[0]


def _result(**asked):
    return CalculationResult(
        request_id="r",
        calculation=CalculationType.VAR_CVAR,
        portfolio="<geared>",
        currency="USD",
        value=1e6,
        snapshot_id="s",
        as_of="2022-12-28",
        answers={},
        merged=(),
        completeness=1.0,
        elapsed_ns=1,
        parameters=Parameters(**asked),
    )


@pytest.mark.parametrize("asked", [{}, {"methods": ("gpd", "student_t"), "confidences": (0.8, 0.99)}])
def test_section_at_a_terminal_shows_tails_limits_and_contributions(snapshot, asked):
    report = _report(snapshot, **asked)
    shown = _shown(Group(*terminal_section.section(report, _result(**asked))))
    assert all(found.method_label in shown for found in report.estimates)
    assert "EVaR" in shown
    assert "breach, critical" in shown
    assert "not watched" in shown
    assert ("Who carries it" in shown) == (not asked)
    if not asked:
        assert f"HHI {report.decompositions[0].herfindahl:.3f}" in shown
        assert "10 more carry" in shown


def test_section_on_a_page_escapes_text_and_draws_contributions(snapshot):
    report = _report(snapshot)
    drawn = document("x", page_section.section(report))
    assert "<geared>" not in drawn
    assert "&lt;geared&gt;" in drawn
    assert "Who carries the risk" in drawn
    assert "concentration" in drawn


def test_page_and_terminal_tell_refits_that_failed_and_methods_left_out(snapshot):
    found = backtest(
        snapshot.until("1992-12-31", min_observations=100, volume_days=20),
        _book(snapshot, "<b>"),
        methods=("historical", "gpd"),
        window_days=250,
    )
    assert "gpd" in _shown(render(found))
    drawn = backtest_page(found)
    assert "<b>:" not in drawn
    assert "gpd: " in drawn
