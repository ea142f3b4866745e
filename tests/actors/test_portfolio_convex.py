"""The compiled and the general solver agree; solvers that fail are named; nothing that disobeys is proposed."""

from __future__ import annotations

import numpy as np
import pytest

from actors.risk.portfolio import allocation, convex
from actors.risk.portfolio.constraints import constraints_of
from actors.risk.portfolio.settings import PortfolioSettings
from hive.messages.calculation import Parameters
from hive.messages.mandate import Mandate

SETTINGS = PortfolioSettings()


def propose(snapshot, held, *methods):
    return allocation.propose(
        allocation.rebuild(snapshot, SETTINGS), held, Parameters(methods=methods, confidences=(0.95,)), SETTINGS
    )


def equal(snapshot, book, **fields):
    return book(dict.fromkeys(snapshot.symbols, 0.05), **fields)


@pytest.mark.parametrize("method", ["minimum_variance", "mean_variance"])
@pytest.mark.parametrize("mandate", [None, Mandate(max_weight=0.12), Mandate(min_weight=-0.05, max_weight=0.2)])
def test_the_compiled_answer_is_skfolios_and_not_worse(method, mandate, snapshot, book):
    held = equal(snapshot, book, mandate=mandate)
    report, _, _ = propose(snapshot, held, method)
    ours = report.proposals[0].weights
    recent = snapshot.returns[-1260:]
    constraints = constraints_of(held, np.arange(20))
    theirs, failed = convex.solve(
        method, recent, constraints, risk_aversion=SETTINGS.risk_aversion, confidence=0.95, budgets=None
    )
    assert failed == ()
    assert ours == pytest.approx(theirs, abs=2e-3)  # skfolio's solver stops at about 1e-4 in weights
    covariance, _ = allocation.ledoit_wolf(recent)
    gain = recent.mean(axis=0) if method == "mean_variance" else np.zeros(20)
    scale = SETTINGS.risk_aversion if method == "mean_variance" else 1.0

    def loss(weights):
        return scale / 2 * weights @ covariance @ weights - gain @ weights

    assert loss(ours) <= loss(theirs) + 1e-9


def test_the_best_few_positions_of_mean_variance_are_not_beaten_by_the_ones_that_rounding_finds(snapshot, book):
    held = equal(snapshot, book, mandate=Mandate(max_positions=4, max_weight=0.5))
    report, _, fallbacks = propose(snapshot, held, "mean_variance")
    assert fallbacks == ()
    ours = report.proposals[0].weights
    recent = snapshot.returns[-1260:]
    heuristic, _ = convex.solve(
        "mean_variance", recent, constraints_of(held, np.arange(20)), risk_aversion=5.0, confidence=0.95
    )
    covariance, _ = allocation.ledoit_wolf(recent)

    def loss(weights):
        return 2.5 * weights @ covariance @ weights - recent.mean(axis=0) @ weights

    assert (np.abs(ours) > 1e-6).sum() <= 4
    assert loss(ours) <= loss(heuristic) + 1e-9


def test_a_count_that_is_not_proved_says_so(snapshot, book):
    held = equal(snapshot, book, mandate=Mandate(max_positions=6, max_weight=0.4))
    report, warnings, _ = propose(snapshot, held, "minimum_cvar")
    assert (np.abs(report.proposals[0].weights) > 1e-6).sum() <= 6
    assert any("minimum_cvar" in note and "not proved" in note for note in warnings)


def test_a_solver_that_fails_is_named_and_what_disobeys_is_not_proposed(snapshot, book, monkeypatch):
    """A solver that gives up leaves inverse volatility, which is no answer to a mandate that it breaks."""
    monkeypatch.setattr(convex, "ATTEMPTS", {"one step": {"max_iter": 1}})
    free, _, fallbacks = propose(snapshot, equal(snapshot, book), "minimum_cvar")
    assert free.proposals[0].method_label == "inverse_volatility"
    assert "one step" in fallbacks[0]
    bound, warnings, _ = propose(snapshot, equal(snapshot, book, mandate=Mandate(max_weight=0.055)), "minimum_cvar")
    assert bound.proposals == ()
    assert any("does not obey weight bounds" in note for note in warnings)


def test_an_attempt_that_fails_before_the_one_that_answers_is_recorded(snapshot, book, monkeypatch):
    monkeypatch.setattr(convex, "ATTEMPTS", {"one step": {"max_iter": 1}, "Clarabel": {}})
    report, _, fallbacks = propose(snapshot, equal(snapshot, book), "minimum_cvar")
    assert report.proposals[0].method_label == "minimum_cvar"
    assert any("one step" in note for note in fallbacks)


@pytest.mark.parametrize(
    "mandate",
    [
        Mandate(max_turnover=0.1, target_return=0.1),
        Mandate(min_weight=-0.1, max_gross=1.2, max_weight=0.3, groups={"a": (-0.1, 0.3)}),
        Mandate(bounds={"AAPL": (0.1, 0.1)}, forbidden=("XOM", "JPM"), max_weight=0.25),
    ],
)
def test_combined_constraints_hold_to_their_tolerance(mandate, snapshot, book):
    held = equal(snapshot, book, mandate=mandate, groups=("a",) * 6 + ("b",) * 14)
    report, _, _ = propose(snapshot, held, "mean_variance", "minimum_cvar", "maximum_diversification")
    assert report.proposals
    for proposal in report.proposals:
        assert all(use.met for use in proposal.constraints)
        w = proposal.weights
        assert w.sum() == pytest.approx(1, abs=1e-6)
        if mandate.max_turnover:
            assert np.abs(w - 0.05).sum() / 2 <= 0.1 + 1e-6
            assert snapshot.returns[-1260:].mean(axis=0) @ w * 252 >= 0.1 - 1e-6
        if mandate.max_gross:
            assert np.abs(w).sum() <= 1.2 + 1e-6
            assert -0.1 - 1e-6 <= w[:6].sum() <= 0.3 + 1e-6
        if mandate.forbidden:
            assert w[snapshot.symbols.index("AAPL")] == pytest.approx(0.1, abs=1e-6)
            assert abs(w[snapshot.symbols.index("XOM")]) <= 1e-6
