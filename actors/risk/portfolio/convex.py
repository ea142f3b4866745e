"""Convex and hierarchical allocations through skfolio, off the hot path; every one is measured against the mandate.

All work on signed returns: a column of a position held short is turned round, so that the unknowns of
:mod:`actors.risk.portfolio.constraints` are what skfolio solves for. skfolio is imported when first needed.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from actors.risk.portfolio.constraints import TRADING_DAYS, Constraints, best_support
from cluster.errors import SwarmError
from hive.messages.mandate import View

ATTEMPTS: dict[str, dict[str, Any]] = {
    "Clarabel": {},
    "Clarabel, looser": {"tol_gap_abs": 1e-6, "tol_gap_rel": 1e-6, "tol_feas": 1e-6, "max_iter": 500},
}
"""The solver's own tolerances, then looser ones for problems on which it stalls."""
METHODS = (
    *("risk_parity", "minimum_variance", "mean_variance", "minimum_cvar", "maximum_diversification", "hrp"),
    "black_litterman",
)


class Unsolved(SwarmError):
    """No solver gave an answer."""


def solve(
    method: str,
    returns: np.ndarray,
    constraints: Constraints,
    *,
    risk_aversion: float,
    confidence: float,
    budgets: np.ndarray | None = None,
    views: tuple[View, ...] = (),
) -> tuple[np.ndarray, tuple[str, ...]]:
    """(unknowns, shape (n,), summing to ``constraints.total``; attempts that failed before) by one of :data:`METHODS`.

    A limit on the number of positions picks those that keep most of the answer without the limit, by a mixed-integer
    program over all constraints, and solves again on them: feasible, and not proved to be the best choice of positions.

    Parameters
    ----------
    returns : ndarray of shape (n_observations, n)
        Signed daily returns.
    risk_aversion : float
        Of the annual utility return - aversion / 2 x variance.
    confidence : float
        Of CVaR.
    budgets : ndarray of shape (n,), optional
        Shares of risk, for ``risk_parity``.

    Raises
    ------
    Unsolved
        Every solver failed; the message has the last one's reason.
    """
    if constraints.max_positions is not None and method != "hrp":
        options = {"risk_aversion": risk_aversion, "confidence": confidence, "budgets": budgets, "views": views}
        whole = constraints.within(np.ones(len(constraints.symbols), bool))
        relaxed, before = solve(method, returns, whole, **options)  # type: ignore[arg-type]
        annual = returns.mean(axis=0) * constraints.signs * TRADING_DAYS
        chosen = best_support(constraints, annual, relaxed)
        found, after = solve(method, returns, constraints.within(chosen), **options)  # type: ignore[arg-type]
        return found, (*before, *after)
    model = _model(method, constraints, returns, risk_aversion, confidence, budgets, views)
    import pandas as pd

    # Unknowns over their total sum to 1, as skfolio wants them; views name columns.
    scaled = pd.DataFrame(returns * constraints.total, columns=[f"x{place}" for place in range(returns.shape[1])])
    failed: list[str] = []
    for attempt, parameters in ATTEMPTS.items() if method != "hrp" else (("one pass", {}),):
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                warnings.filterwarnings("error", "Solution may be inaccurate")
                fitted = model(parameters).fit(scaled)
        except Exception as error:
            failed.append(f"{attempt}: {_first_line(error)}")
            continue
        weights = np.asarray(fitted.weights_, dtype=float)
        if weights.shape == (returns.shape[1],) and np.isfinite(weights).all():
            return weights * constraints.total, tuple(failed)
        failed.append(f"{attempt}: no finite weights")
    raise Unsolved("; ".join(failed), "Loosen the mandate, or use another method")


def front(returns: np.ndarray, constraints: Constraints, points: int) -> np.ndarray:
    """Efficient unknowns in rising variance, shape (n_points, n), under the constraints.

    Raises
    ------
    Unsolved
        The solver found none.
    """
    from skfolio import RiskMeasure
    from skfolio.optimization import MeanRisk, ObjectiveFunction

    model = MeanRisk(
        objective_function=ObjectiveFunction.MINIMIZE_RISK,
        risk_measure=RiskMeasure.VARIANCE,
        efficient_frontier_size=points,
        prior_estimator=_prior(),
        **_options(constraints),
    )
    try:
        weights = np.asarray(model.fit(returns * constraints.total).weights_, dtype=float)
    except Exception as error:
        raise Unsolved(_first_line(error), "Loosen the mandate") from error
    return np.atleast_2d(weights) * constraints.total


def _model(
    method: str,
    constraints: Constraints,
    returns: np.ndarray,
    risk_aversion: float,
    confidence: float,
    budgets: np.ndarray | None,
    views: tuple[View, ...],
) -> Callable[[dict[str, Any]], Any]:
    from skfolio import RiskMeasure, optimization
    from skfolio.optimization import ObjectiveFunction

    options = _options(constraints)
    if method == "hrp":
        total = constraints.total
        return lambda _: optimization.HierarchicalRiskParity(
            prior_estimator=_prior(),
            min_weights=np.clip(constraints.lower / total, 0.0, 1.0),
            max_weights=np.clip(constraints.upper / total, 0.0, 1.0),
        )
    if method == "risk_parity":
        bounds = {key: options[key] for key in ("min_weights", "max_weights", "left_inequality", "right_inequality")}
        bounds["min_weights"] = np.maximum(bounds["min_weights"], 0.0)
        return lambda extra: optimization.RiskBudgeting(
            risk_measure=RiskMeasure.VARIANCE,
            risk_budget=budgets,
            prior_estimator=_prior(),
            solver_params=extra or None,
            **bounds,
        )
    if method == "maximum_diversification":
        return lambda extra: optimization.MaximumDiversification(
            prior_estimator=_prior(), solver_params=extra or None, **options
        )
    if method == "minimum_cvar":
        return lambda extra: optimization.MeanRisk(
            risk_measure=RiskMeasure.CVAR, cvar_beta=confidence, solver_params=extra or None, **options
        )
    if method == "minimum_variance":
        return lambda extra: optimization.MeanRisk(prior_estimator=_prior(), solver_params=extra or None, **options)
    if method == "black_litterman":
        prior = _posterior(constraints, views, risk_aversion, len(returns))
        if options.pop("min_return", None) is not None:  # asked of the window's means, as of every other method
            _floor(options, returns.mean(axis=0) * TRADING_DAYS, constraints)
    else:
        prior = _prior()
    if "min_return" in options:
        return lambda extra: optimization.MeanRisk(prior_estimator=prior, solver_params=extra or None, **options)
    # skfolio's utility is return - aversion x variance; ours halves the aversion, as the textbooks do.
    return lambda extra: optimization.MeanRisk(
        objective_function=ObjectiveFunction.MAXIMIZE_UTILITY,
        risk_aversion=risk_aversion / 2,
        prior_estimator=prior,
        solver_params=extra or None,
        **options,
    )


def _options(constraints: Constraints) -> dict[str, Any]:
    """Constraints in skfolio's words, for weights that sum to 1."""
    total = constraints.total
    left = [row for g in constraints.groups for row in (g.loads, -g.loads)]
    right = [limit / total for g in constraints.groups for limit in (g.upper, -g.lower)]
    options: dict[str, Any] = {
        "min_weights": constraints.lower / total,
        "max_weights": constraints.upper / total,
        "left_inequality": np.array(left) if left else None,
        "right_inequality": np.array(right) if right else None,
    }
    if constraints.target_return is not None:
        options["min_return"] = constraints.target_return / TRADING_DAYS
    if constraints.max_turnover is not None or constraints.max_gross is not None:
        options["add_constraints"] = lambda weights: _extra(weights, constraints)
    return options


def _extra(weights: Any, constraints: Constraints) -> list[Any]:
    import cvxpy as cp

    total = constraints.total
    extra = []
    if constraints.max_turnover is not None:
        extra.append(cp.norm1(weights - constraints.current / total) <= 2 * constraints.max_turnover / total)
    if constraints.max_gross is not None:
        extra.append(cp.norm1(weights) <= constraints.max_gross / total)
    return extra


def _first_line(error: Exception) -> str:
    return f"{type(error).__name__}: {error}".splitlines()[0][:200]


def _prior() -> Any:
    from skfolio.moments import LedoitWolf
    from skfolio.prior import EmpiricalPrior

    return EmpiricalPrior(covariance_estimator=LedoitWolf())


def _floor(options: dict[str, Any], annual: np.ndarray, constraints: Constraints) -> None:
    """Ask for the target return of means of one's own: ``annual``, shape (n,), of the unknowns."""
    row, limit = -annual[None, :], np.array([-(constraints.target_return or 0.0) / constraints.total])
    left, right = options["left_inequality"], options["right_inequality"]
    options["left_inequality"] = row if left is None else np.vstack([left, row])
    options["right_inequality"] = limit if right is None else np.concatenate([right, limit])


def _posterior(constraints: Constraints, views: tuple[View, ...], risk_aversion: float, days: int) -> Any:
    """Black-Litterman: views on annual returns over the equilibrium, confidences by Idzorek's method.

    The equilibrium is what makes the book's own weights w the best ones: means risk_aversion x S w. They are as
    uncertain as the mean of so many ``days``, tau = 1 / days, so that without confidence in the views the covariance,
    too, is all but S, and the book stays as it is.
    """
    from skfolio.moments import EquilibriumMu, LedoitWolf
    from skfolio.prior import BlackLitterman, EmpiricalPrior

    signs = dict(zip(constraints.symbols, constraints.signs.tolist(), strict=True))
    places = {symbol: f"x{place}" for place, symbol in enumerate(constraints.symbols)}
    sentences = []
    for view in views:
        loads = {symbol: load for symbol, load in view.weights.items() if load}
        terms = " ".join(f"{load * signs[s] / constraints.total:+.12f} * {places[s]}" for s, load in loads.items())
        sentences.append(f"{terms.removeprefix('+')} == {view.annual_return / TRADING_DAYS:.12f}")
    # The utility halves the aversion, so that its best weights are S^-1 m / aversion: these means take the whole of it.
    equilibrium = EquilibriumMu(
        weights=constraints.current / constraints.total,
        risk_aversion=risk_aversion,
        covariance_estimator=LedoitWolf(),
    )
    return BlackLitterman(
        views=sentences,
        view_confidences=[view.confidence for view in views],
        prior_estimator=EmpiricalPrior(mu_estimator=equilibrium, covariance_estimator=LedoitWolf()),
        tau=1.0 / days,
    )
