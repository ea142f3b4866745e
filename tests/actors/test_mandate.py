"""Every proposal obeys its mandate; what cannot be obeyed is refused with the constraints that conflict."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from actors.risk.portfolio import allocation, convex
from actors.risk.portfolio.constraints import constraints_of, measured, refuse_infeasible
from actors.risk.portfolio.settings import PortfolioSettings
from cluster.errors import InvalidPortfolio
from hive.messages.calculation import Parameters
from hive.messages.mandate import Mandate, View

SETTINGS = PortfolioSettings()
GROUPS = ("tech",) * 5 + ("other",) * 15


@pytest.fixture(scope="module")
def symbols(snapshot):
    return snapshot.symbols


def propose(snapshot, book, *methods):
    parameters = Parameters(methods=methods)
    return allocation.propose(allocation.rebuild(snapshot, SETTINGS), book, parameters, SETTINGS)


def equal(book, symbols, **fields):
    return book(dict.fromkeys(symbols, 0.05), groups=GROUPS, **fields)


MANDATES = {
    "boxes": Mandate(max_weight=0.15),
    "groups and forbidden": Mandate(max_weight=0.3, groups={"tech": (0.05, 0.2)}, forbidden=("AAPL",)),
    "turnover": Mandate(max_weight=0.2, max_turnover=0.25),
    "shorts allowed": Mandate(min_weight=-0.1, max_weight=0.25, max_gross=1.5),
    "few positions": Mandate(max_positions=6, max_weight=0.4),
    "target return": Mandate(target_return=0.12, max_weight=0.3),
}


@pytest.mark.parametrize("name", MANDATES)
def test_every_proposal_obeys_every_constraint(name, snapshot, book, symbols):
    held = equal(book, symbols, mandate=MANDATES[name])
    report, warnings, fallbacks = propose(snapshot, held, *convex.METHODS, "pareto_front")
    assert report.proposals
    constraints = constraints_of(held, np.arange(20))
    annual = snapshot.returns[-1260:].mean(axis=0) * 252
    for proposal in (*report.proposals, *report.front):
        assert all(use.met for use in measured(constraints, proposal.weights, annual))
    named = {proposal.method_label for proposal in report.proposals}
    for method in set(convex.METHODS) - named - {"black_litterman"}:  # what is not proposed is explained
        assert any(method in note for note in (*warnings, *fallbacks)), method


@pytest.mark.parametrize(
    ("mandate", "named"),
    [
        (Mandate(max_weight=0.04), ("weight bounds", "sum of weights")),
        (Mandate(groups={"tech": (0, 0.1), "other": (0, 0.5)}), ("group tech", "group other", "sum of weights")),
        (Mandate(target_return=3.0), ("expected return",)),
        (Mandate(max_positions=3, max_turnover=0.2), ("turnover", "at most 3 positions")),
    ],
)
def test_conflicting_constraints_are_named_and_no_others(mandate, named, snapshot, book, symbols):
    held = equal(book, symbols, mandate=mandate)
    with pytest.raises(InvalidPortfolio) as refusal:
        propose(snapshot, held, "mean_variance")
    assert all(part in str(refusal.value) for part in named)
    if "turnover" not in named:
        assert "turnover" not in str(refusal.value)


def test_dropping_any_named_constraint_makes_it_feasible(snapshot, book, symbols):
    parts = {"tech": (0.0, 0.1), "other": (0.0, 0.5)}
    annual = snapshot.returns[-1260:].mean(axis=0) * 252
    for kept in itertools.combinations(parts, 1):
        mandate = Mandate(groups={name: parts[name] for name in kept})
        refuse_infeasible(constraints_of(equal(book, symbols, mandate=mandate), np.arange(20)), annual)


@pytest.mark.parametrize("mandate", [Mandate(forbidden=("ZZZ",)), Mandate(groups={"bonds": (0, 1)})])
def test_a_mandate_on_what_the_book_does_not_have_is_refused(mandate, snapshot, book, symbols):
    with pytest.raises(InvalidPortfolio, match=r"ZZZ|bonds"):
        propose(snapshot, equal(book, symbols, mandate=mandate), "mean_variance")


def test_minimum_cvar_is_the_one_three_libraries_agree_on(snapshot, book, symbols):
    """CVaR 95 % of 0.0246068263 on the last 1260 days: skfolio, Riskfolio and PyPortfolioOpt within 1.5e-8."""
    report, _, _ = propose(snapshot, equal(book, symbols), "minimum_cvar")
    losses = np.sort(-(snapshot.returns[-1260:] @ report.proposals[0].weights))[::-1]
    assert losses[:63].mean() == pytest.approx(0.0246068263, abs=2e-9)


def test_a_view_moves_its_symbol_the_way_it_says(snapshot, book, symbols):
    def weight(annual_return):
        views = (View({"XOM": 1.0}, annual_return, 0.9),)
        held = equal(book, symbols, mandate=Mandate(max_weight=0.5, views=views))
        report, _, _ = propose(snapshot, held, "black_litterman")
        return report.proposals[0].weights[symbols.index("XOM")]

    assert weight(0.6) > weight(0.05)


def test_black_litterman_without_views_is_explained(snapshot, book, symbols):
    report, warnings, _ = propose(snapshot, equal(book, symbols), "black_litterman")
    assert report.proposals == ()
    assert any("views" in warning for warning in warnings)


def test_risk_budgets_of_the_mandate_are_met(snapshot, book, symbols):
    budgets = dict.fromkeys(symbols, 0.04) | {"AAPL": 0.24}
    report, _, _ = propose(snapshot, equal(book, symbols, mandate=Mandate(risk_budgets=budgets)), "risk_parity")
    shares = report.proposals[0].risk_contributions
    assert shares == pytest.approx(list(budgets.values()), abs=1e-7)


def test_front_rises_in_return_and_no_proposal_lies_above_it(snapshot, book, symbols):
    report, _, _ = propose(snapshot, equal(book, symbols), "pareto_front", "mean_variance", "minimum_variance")
    means = [point.annual_return.value for point in report.front]
    deviations = [point.annual_volatility.value for point in report.front]
    assert len(means) > 5
    assert (np.diff(means) > 0).all()
    assert (np.diff(deviations) > 0).all()
    recent = snapshot.returns[-1260:]
    for proposal in report.proposals:
        daily = recent @ proposal.weights
        mean, deviation = daily.mean() * 252, daily.std(ddof=1) * 252**0.5
        if means[0] <= mean <= means[-1]:
            assert deviation >= np.interp(mean, means, deviations) * 0.99
