"""Stress, for a page."""

from __future__ import annotations

from dataclasses import replace

import plotly.graph_objects as go

from hive.messages.reports import ReverseStress, StressReport
from swarm.report.page.form import Part, estimates_table, laid_out, text

SCENARIO_COLOURS = {
    "historical": "#b4463c",
    "hypothetical": "#c98b2b",
    "factor": "#4a6fa5",
    "monte_carlo": "#5b7f5e",
    "conditional": "#7d5ba6",
    "reverse": "#3a3a3a",
    "tail": "#8a8a8a",
}


def section(report: StressReport) -> list[Part]:
    """The section of this room."""
    parts: list[Part] = ["<h2>Stress</h2>", _stress(report), *_not_run(report)]
    if report.reverse is not None:
        parts += _reverse(report.reverse)
    if report.sensitivities:
        parts.append(_shares(report))
    if report.factor_sensitivities:
        parts.append(
            estimates_table([replace(f.beta, measure=f"beta {f.factor}") for f in report.factor_sensitivities])
        )
    return parts


def _stress(report: StressReport) -> go.Figure:
    known = sorted((s for s in report.scenarios if s.loss is not None), key=lambda s: s.loss.value if s.loss else 0.0)
    losses = [s.loss for s in known if s.loss is not None]
    reach = [(loss.upper - loss.value) if loss.upper is not None else 0.0 for loss in losses]
    back = [(loss.value - loss.lower) if loss.lower is not None else 0.0 for loss in losses]
    bars = go.Bar(
        x=[loss.value for loss in losses],
        y=[s.name for s in known],
        orientation="h",
        error_x={"type": "data", "array": reach, "arrayminus": back, "thickness": 1},
        marker_color=[SCENARIO_COLOURS[s.kind] for s in known],
        hovertext=[f"{s.kind}. {s.note}" for s in known],
    )
    return laid_out(bars, rows=len(known), title="Loss by scenario", x_format=".0%")


def _not_run(report: StressReport) -> list[str]:
    return [f"<p class=warn>Not run: {text(s.name)}, {text(s.note)}</p>" for s in report.scenarios if s.loss is None]


def _reverse(found: ReverseStress) -> list[Part]:
    moves = sorted(found.moves.items(), key=lambda item: item[1])
    bars = go.Bar(
        x=[move for _, move in moves], y=[symbol for symbol, _ in moves], orientation="h", marker_color="#3a3a3a"
    )
    law = f"Student-t with {found.degrees:.1f} degrees" if found.degrees is not None else "no heavier tail found"
    others = (
        f" The search found {len(found.others)} other local answers: it is not the only way." if found.others else ""
    )
    return [
        f"<h3>Reverse: the likeliest loss of {found.target:.0%}</h3>"
        f"<p>{found.distance:.1f} standard deviations of the market away. Chance on a day: "
        f"{found.normal_probability:.1e} with normal moves, {found.student_probability:.1e} otherwise ({law}). "
        f"Closest day seen: {text(found.closest_day)}, which would have lost {found.closest_day_loss:.2%}.{others}</p>",
        laid_out(bars, rows=len(moves), title="The moves", x_format=".0%"),
    ]


def _shares(report: StressReport) -> go.Figure:
    ranked = sorted(report.sensitivities, key=lambda one: one.share.value)
    reach = [(one.share.upper - one.share.value) if one.share.upper is not None else 0.0 for one in ranked]
    bars = go.Bar(
        x=[one.share.value for one in ranked],
        y=[one.symbol for one in ranked],
        orientation="h",
        error_x={"type": "data", "array": reach, "thickness": 1},
        hovertext=[f"delta {one.delta:.3f}, gamma {one.gamma:.3f}" for one in ranked],
        marker_color="#4a6fa5",
    )
    return laid_out(bars, rows=len(ranked), title="Share of the variance of the daily loss (Shapley)", x_format=".0%")
