"""Reports say what the result says, also where part of it is missing."""

from __future__ import annotations

import io
from dataclasses import replace

import pytest
from rich.console import Console

from hive.messages.reports import LiquidityReport
from swarm import AnswerStatus, CalculationResult, Portfolio, SwarmClient
from swarm.report.page import page
from swarm.report.terminal import render


@pytest.fixture(scope="module")
def result(client: SwarmClient) -> CalculationResult:
    symbols = client.snapshot().symbols
    return client.calculate(Portfolio.equal_weights(symbols, value=1e7, name="<b>desk</b>"), as_of="2012-06-29")


def shown(result: CalculationResult) -> str:
    console = Console(file=io.StringIO(), width=220)
    console.print(render(result))
    return console.file.getvalue()


def test_every_estimate_with_an_interval_stands_in_the_tables(result: CalculationResult) -> None:
    text = shown(result)
    for estimate in result.report("value_at_risk").estimates:
        assert f"{estimate.value:.2%}" in text
        assert f"{estimate.lower:.2%} .. {estimate.upper:.2%}" in text
    for scenario in result.report("stress").scenarios:
        assert scenario.name in text
        assert scenario.loss is None or f"{scenario.loss.value:.2%}" in text


def test_scenario_that_could_not_run_is_shown_with_its_reason(result: CalculationResult) -> None:
    text = shown(result)
    assert "Covid crash, 2020" in text and "not run" in text and "outside the snapshot" in text
    assert "Not run: Covid crash, 2020" in page(result)


def test_agent_without_an_answer_is_named_with_its_reason(result: CalculationResult) -> None:
    late = replace(result.answers["correlation"], status=AnswerStatus.LATE, report=None, reason="no answer within 5 ms")
    partial = replace(result, answers={**result.answers, "correlation": late}, completeness=0.8)
    for text in (shown(partial), page(partial)):
        assert "80% complete" in text and "no answer within 5 ms" in text and "late" in text
        assert "Ledoit-Wolf correlation" not in text


def test_book_without_a_value_shows_fractions_and_no_money(result: CalculationResult) -> None:
    text = shown(replace(result, value=None))
    assert "no value stated" in text and " 1,7" not in text


def test_page_needs_nothing_from_outside_and_escapes_what_came_from_there(result: CalculationResult) -> None:
    text = page(result)
    assert "<b>desk</b>" not in text and "&lt;b&gt;desk&lt;/b&gt;" in text
    assert text.count("<script") >= 3 and 'src="http' not in text
    assert text.index("plotly.js v") < text.index("Plotly.newPlot")


def test_one_symbol_has_no_correlation_picture(client: SwarmClient) -> None:
    single = client.calculate(Portfolio.from_weights({"AAPL": 1.0}, value=1e6))
    assert "Correlation picture" not in shown(single)
    assert isinstance(single.report("liquidity"), LiquidityReport) and "AAPL" in shown(single)
