"""A backtest of value-at-risk methods as one HTML page: forecasts over the days they were for, and how they did."""

from __future__ import annotations

import numpy as np
import plotly.graph_objects as go

from hive.market.snapshot import SHORT_ID
from hive.messages.reports import BacktestResult, BacktestTest
from swarm.report.page import document
from swarm.report.page.form import Part, table, text

COLOURS = ("#4f7cac", "#b4436c", "#5a8f69", "#c98b2c", "#7d5ba6", "#3b8ea5", "#8c6d46")
HEIGHT_PX = 460


def backtest_page(result: BacktestResult) -> str:
    """The whole page. Text that came from outside is escaped."""
    title = f"{result.portfolio}: VaR backtest"
    return document(title, [f"<h1>{text(title)}</h1>", *backtest_parts(result)])


def backtest_parts(result: BacktestResult) -> list[Part]:
    """Figure and tables without a headline, for a page of its own or as a part of another."""
    parts: list[Part] = [
        f"<p>One-day VaR at {result.confidence:.3g}, {len(result.dates)} days from {text(result.dates[0])} to "
        f"{text(result.dates[-1])}, each forecast from the {result.window_days} days before it; fits renewed every "
        f"{result.refit_days} days.</p>",
        f"<p class=quiet>Snapshot {result.snapshot_id[:SHORT_ID]}, seed {result.seed}. Small p-values speak against a "
        "model. Losses are fractions of value.</p>",
        _forecasts(result),
        "<h2>Tests</h2>",
        _tests(result),
    ]
    if result.comparisons:
        parts += [
            "<h2>Comparison</h2>",
            "<p class=quiet>Diebold-Mariano with Newey-West variance: a negative difference is in favour of the first."
            "</p>",
            _comparisons(result),
        ]
    notes = [*result.warnings, *(f"{m.method_label}: {note}" for m in result.models for note in m.fallbacks)]
    parts += [f"<p class=warn>{text(note)}</p>" for note in notes]
    return parts


def _forecasts(result: BacktestResult) -> go.Figure:
    dates = np.array(result.dates)
    figure = go.Figure(
        go.Scattergl(
            x=dates,
            y=result.returns,
            mode="markers",
            name="return",
            marker={"size": 3, "color": "#b8c4d0"},
        )
    )
    for place, model in enumerate(result.models):
        colour = COLOURS[place % len(COLOURS)]
        figure.add_scattergl(
            x=dates, y=-model.var, mode="lines", name=f"-VaR {model.method_label}", line={"color": colour, "width": 1.2}
        )
        beyond = model.exceptions
        figure.add_scattergl(
            x=dates[beyond],
            y=result.returns[beyond],
            mode="markers",
            name=f"{int(beyond.sum())} exceptions of {model.method_label}",
            marker={"size": 7, "color": colour, "symbol": "x-thin-open"},
        )
    figure.update_layout(
        template="plotly_white",
        title="Returns, the loss not to be exceeded, and the days it was",
        height=HEIGHT_PX,
        margin={"l": 10, "r": 10, "t": 50, "b": 30},
        yaxis_tickformat=".1%",
        yaxis_automargin=True,
        legend={"orientation": "h", "y": -0.12},
    )
    return figure


def _tests(result: BacktestResult) -> str:
    header = (
        *("method", "exceptions", "expected", "Kupiec", "independence", "conditional coverage", "Z1", "Z2"),
        *("Basel zone", "quantile loss, bp", "FZ loss"),
    )
    rows = [
        (
            model.method_label,
            f"{int(model.exceptions.sum())}",
            f"{model.expected:.1f}",
            *(_tested(test) for test in model.tests),
            f"{model.traffic_light.zone} ({model.traffic_light.exceptions} in {model.traffic_light.days} days)",
            f"{model.pinball * 1e4:.3f}",
            "" if model.fissler_ziegel is None else f"{model.fissler_ziegel:.4f}",
        )
        for model in result.models
    ]
    return table(header, rows, numeric=(1, 2, 3, 4, 5, 6, 7, 9, 10))


def _tested(test: BacktestTest) -> str:
    if test.statistic is None or test.p_value is None:
        return test.note
    return f"{test.statistic:.2f} ({_p(test.p_value)})"


def _p(value: float) -> str:
    return "p < 0.001" if value < 0.001 else f"p {value:.3f}"


def _comparisons(result: BacktestResult) -> str:
    rows = [
        (
            found.first,
            found.second,
            found.loss.replace("_", "-"),
            f"{found.difference:+.3g}",
            "" if found.statistic is None else f"{found.statistic:+.2f}",
            "" if found.p_value is None else _p(found.p_value),
        )
        for found in result.comparisons
    ]
    return table(("first", "second", "loss", "difference", "statistic", "p"), rows, numeric=(3, 4, 5))
