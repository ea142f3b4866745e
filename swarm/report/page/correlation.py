"""Correlation, for a page."""

from __future__ import annotations

import plotly.graph_objects as go

from hive.messages.estimate import Estimate
from hive.messages.reports import BookDependence, ChangeWatch, CorrelationReport, DynamicCorrelation
from swarm.report.page.form import Part, estimates_table, laid_out, number, table, text

SHOWN_CALLS = 5  # newest changes of each detector
PATH_ROWS = 8  # height of the path of mean correlation, in rows


def section(report: CorrelationReport) -> list[Part]:
    """The section of this room."""
    own = [*report.estimates, *([report.regime.change] if report.regime else [])]
    parts: list[Part] = ["<h2>Correlation</h2>", estimates_table(own)]
    notes = [f"{matrix.method}: {matrix.note}" for matrix in report.matrices if matrix.note]
    parts += [f"<p>{text('; '.join(notes))}</p>"] if notes else []
    if report.clusters:
        groups = "; ".join(" ".join(group) for group in report.clusters)
        parts.append(f"<p>Move together: {text(groups)}</p>")
    if report.pairs:
        pairs = ", ".join(f"{p.first}-{p.second} {p.correlation:.2f} ({p.severity})" for p in report.pairs)
        parts.append(f"<p>Closely correlated pairs: {text(pairs)}</p>")
    parts += [_heat_map(report)] if len(report.symbols) > 1 else []
    parts += _watches(report.watches) if report.watches else []
    parts += _dynamic(report.dynamic, report.watches) if report.dynamic is not None else []
    parts += _dependence(report.dependence) if report.dependence is not None else []
    return parts


def _heat_map(report: CorrelationReport) -> go.Figure:
    """The correlation matrix, alike symbols beside each other."""
    order = list(report.order) or list(range(len(report.symbols)))
    names = [report.symbols[place] for place in order]
    shown = report.shrunk[order][:, order]
    heat = go.Heatmap(z=shown, x=names, y=names, zmin=-1, zmax=1, colorscale="RdBu", reversescale=True)
    figure = laid_out(heat, rows=max(10, len(names)), title="Ledoit-Wolf correlation", x_format=None)
    figure.update_yaxes(autorange="reversed")
    return figure


def _watches(watches: tuple[ChangeWatch, ...]) -> list[Part]:
    rows = [
        (
            watch.statistic.replace("_", " "),
            watch.method.replace("_", " "),
            ", ".join(f"{c.direction} {c.change_date} (+{c.delay_days})" for c in watch.calls[-SHOWN_CALLS:]) or "none",
            f"{len(watch.calls)} in {watch.days}",
            f"{watch.usual_delay_days:.0f}",
        )
        for watch in watches
    ]
    header = ("watched", "by", "newest changes (delay in days)", "in all", "usual delay")
    quiet = f"Thresholds give one false alarm in {watches[0].false_alarm_days} days where correlation does not change."
    return ["<h3>Changes, called day by day</h3>", table(header, rows, numeric=(3, 4)), f"<p>{quiet}</p>"]


def _dynamic(dynamic: DynamicCorrelation, watches: tuple[ChangeWatch, ...]) -> list[Part]:
    rows = [
        (name, _shown(estimate, 4), estimate.method_label, estimate.interval_method)
        for name, estimate in (
            ("a, weight of yesterday's shocks", dynamic.a),
            ("b, weight kept from yesterday", dynamic.b),
        )
    ]
    rows.append(("mean correlation tomorrow", _shown(dynamic.mean_correlation, 2), "dcc", ""))
    rows.append((f"in {len(dynamic.forecast)} days", f"{dynamic.forecast[-1]:.2f}", "dcc", ""))
    if dynamic.half_life_days is not None:
        rows.append(("half of a shock is forgotten in", f"{dynamic.half_life_days:.0f} days", "dcc", ""))
    if dynamic.boundary:
        rows.append(("the fit ended at a bound", dynamic.boundary, "dcc", ""))
    dates = [str(day) for day in dynamic.path_dates]
    figure = laid_out(
        go.Scatter(x=dates, y=dynamic.path, mode="lines", line={"color": "#1f4e79"}),
        rows=PATH_ROWS,
        title="Mean pair correlation, each day as forecast the evening before",
        x_format=None,
    )
    for watch in watches:
        for call in watch.calls:
            if watch.statistic == "mean_correlation" and call.change_date >= dates[0]:
                figure.add_vline(x=call.change_date, line={"color": "#c0504d", "dash": "dot", "width": 1})
    header = ("dynamic correlation", "value (95 % interval)", "method", "interval by")
    return ["<h3>Dynamic correlation</h3>", table(header, rows, numeric=(1,)), figure]


def _dependence(dependence: BookDependence) -> list[Part]:
    rows = [
        (
            f"{pair.first}-{pair.second}",
            number(pair.kendall_tau, "ratio"),
            pair.fits[0].family.replace("_", " "),
            _shown(pair.lower_tail, 2),
            _shown(pair.upper_tail, 2),
        )
        for pair in dependence.pairs
    ]
    header = ("pair", "Kendall's tau", "best copula by AIC", "fall together", "rise together")
    said = f"Tail dependence of a pair of the book, in the mean: {_shown(dependence.mean_tail, 2)}"
    said += f", by a {dependence.fits[0].family.replace('_', ' ')} copula"
    if dependence.degrees is not None:
        said += f" of {_shown(dependence.degrees, 1)} degrees"
    return ["<h3>Copulas</h3>", table(header, rows, numeric=(1, 3, 4)), f"<p>{text(said)}.</p>"]


def _shown(estimate: Estimate, decimals: int) -> str:
    """A value, its interval behind it."""
    value = f"{estimate.value:.{decimals}f}"
    if estimate.lower is None or estimate.upper is None:
        return value
    return f"{value} ({estimate.lower:.{decimals}f} .. {estimate.upper:.{decimals}f})"
