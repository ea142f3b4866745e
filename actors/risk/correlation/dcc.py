"""Dynamic conditional correlation, DCC(1,1): fitted in two stages, carried forward day by day, forecast.

Stage one is a GARCH(1,1) a symbol (:mod:`actors.risk.garch`); stage two, here, holds the target at the second moments
of the standardised shocks and maximises the rest over a and b (Engle 2002). ``corrected`` drives q with shocks times
its own deviations, for which the target is a consistent one (Aielli 2013).

The likelihood is the full Gaussian one, or a composite one of pairs (Pakel, Shephard, Sheppard & Engle 2021), which
costs n^2 instead of n^3 a day and is not biased towards a = 0 where symbols are many.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal, TypeVar

import numpy as np

from actors.risk.correlation.dcc_kernels import (
    corrected_driver,
    full_log_likelihood,
    pair_log_likelihood,
    sensitivity,
)
from actors.risk.covariance import correlation_of, long_run_covariance
from actors.risk.garch import MIN_DAYS, Garch
from actors.risk.measures import Z_INTERVAL
from cluster.errors import InvalidMarketData

Found = TypeVar("Found")
Likelihood = Literal["full", "all_pairs", "contiguous_pairs"]

# Search in logits of s = a + b and of x = a / s: every point of the plane is a stationary model.
MOMENTUM_BOUNDS = (-4.0, 13.8)  # s from 0.018 to 1 - 1e-6
SHARE_BOUNDS = (-11.5, 6.0)  # x from 1e-5 to 0.9975
STARTS = tuple((s, x) for s in (0.8, 0.97, 0.995) for x in (0.01, 0.05))
BOUNDARY = 1e-3  # logits within which a search has ended at a bound
STEP = 1e-3  # logits, for derivatives of scores
SINGULAR = 1e-6  # least eigenvalue of a target below which some symbols say the same
WORST = 1e6  # loss a day of a model without a likelihood: finite, so that a search turns back
MAX_SLOPES = 25_000_000  # numbers held to carry the error of stage one into stage two, 200 MB


@dataclass(frozen=True)
class Dcc:
    """A fitted DCC(1,1) and the state it has reached."""

    a: float
    """Weight of yesterday's shocks."""
    b: float
    """Weight kept from yesterday: the correlation forgets half of a shock in ln 2 / -ln(a + b) days."""
    a_bounds: tuple[float, float] | None
    """95 % interval of ``a``; None at a boundary, where no such interval holds."""
    b_bounds: tuple[float, float] | None
    interval_method: str
    log_likelihood: float
    """Of stage two: beyond that of independent shocks."""
    constant_log_likelihood: float
    """The same for a = b = 0: constant correlation (Bollerslev 1990)."""
    likelihood: Likelihood
    corrected: bool
    samples: int
    target: np.ndarray
    """S, shape (n, n)."""
    q: np.ndarray
    """q of the next day, shape (n, n), symmetric: what a new day's shocks are judged by, and then move."""
    boundary: str
    """Which bound the search ended at; empty where it ended inside."""
    evaluations: int
    """Likelihoods computed by the search."""

    @property
    def correlation(self) -> np.ndarray:
        """Correlation forecast for the next day, shape (n, n)."""
        return correlation_of(self.q)


def fit_dcc(
    residuals: np.ndarray,
    margins: Sequence[Garch] = (),
    *,
    likelihood: Likelihood = "full",
    corrected: bool = False,
) -> Dcc:
    """Quasi maximum-likelihood a and b of standardised residuals.

    Parameters
    ----------
    residuals : ndarray of shape (n_days, n)
        Shocks of mean about 0 and variance about 1, at least two columns.
    margins : sequence of Garch, one a column
        Fits that made the residuals. With them the intervals of a and b carry the error of stage one and of the
        target; without them, or with ``corrected``, both are taken as known, and ``interval_method`` says so.
    likelihood : "full", "all_pairs" or "contiguous_pairs"
    corrected : bool
        Fit the corrected model.

    Raises
    ------
    InvalidMarketData
        Fewer than two columns or ``MIN_DAYS`` days, a value that is not finite, a column that does not move, or more
        columns than the days can give a positive definite target; two columns of a pair that move as one.
    """
    problem = _Problem.of(residuals, likelihood, corrected)
    point, evaluations = _search(problem)
    a, b = _parameters(point)
    boundary = _boundary(point)
    constant = problem.log_likelihood(0.0, 0.0)
    best = problem.log_likelihood(a, b)
    if boundary.startswith("a = 0") or best <= constant:
        a = b = 0.0
        best, boundary = constant, "a = 0: no shock moves the correlation"
    a_bounds, b_bounds, method = (None, None, f"none: {boundary}")
    if not boundary:
        a_bounds, b_bounds, method = _intervals(problem, point, margins)
    target, last, driver = problem.state(a, b)
    return Dcc(
        a=a,
        b=b,
        a_bounds=a_bounds,
        b_bounds=b_bounds,
        interval_method=method,
        log_likelihood=best,
        constant_log_likelihood=constant,
        likelihood=likelihood,
        corrected=corrected,
        samples=len(residuals),
        target=target,
        q=_next(target, last, driver[-1], a, b),
        boundary=boundary,
        evaluations=evaluations + 2,
    )


def updated(fit: Dcc, shocks: np.ndarray) -> Dcc:
    """The same model one day later: O(n^2).

    Parameters
    ----------
    shocks : ndarray of shape (n,)
        The new day's standardised residuals.

    Raises
    ------
    InvalidMarketData
        A shock is not finite.
    """
    if not np.isfinite(shocks).all():
        raise InvalidMarketData("a shock is not finite", "Correct the market data")
    driver = np.sqrt(np.diag(fit.q)) * shocks if fit.corrected else shocks
    return replace(fit, q=_next(fit.target, fit.q, driver, fit.a, fit.b))


def forecast(fit: Dcc, days: int) -> np.ndarray:
    """Correlation expected ``days`` ahead, 1 being the next day: what is there decays to the target at a + b a day.

    The recursion is not linear in correlations, so this is the usual approximation, E[r] carried as q is (Engle &
    Sheppard 2001).
    """
    kept = (fit.a + fit.b) ** (days - 1)
    return np.asarray(kept * fit.correlation + (1 - kept) * correlation_of(fit.target))


def mean_correlations(fit: Dcc, residuals: np.ndarray) -> np.ndarray:
    """Mean pair correlation of every day of ``residuals`` as known the evening before, shape (n_days,)."""
    driver = _driver(_own(residuals), fit.a, fit.b) if fit.corrected else residuals
    n = residuals.shape[1]
    q, means = fit.target.copy(), np.empty(len(residuals))
    for t in range(len(residuals)):
        if t:
            q = _next(fit.target, q, driver[t - 1], fit.a, fit.b)
        scale = 1.0 / np.sqrt(q.diagonal())
        means[t] = (scale @ q @ scale - n) / (n * (n - 1))
    return means


@dataclass
class _Problem:
    """Shocks, and the buffers in which likelihoods are computed."""

    shocks: np.ndarray
    target: np.ndarray
    likelihood: Likelihood
    corrected: bool
    driver: np.ndarray
    q: np.ndarray
    work: np.ndarray
    daily: np.ndarray

    @classmethod
    def of(cls, residuals: np.ndarray, likelihood: Likelihood, corrected: bool) -> _Problem:
        days, n = residuals.shape
        if n < 2 or days < MIN_DAYS or not np.isfinite(residuals).all():
            raise InvalidMarketData(
                f"a DCC needs two series and {MIN_DAYS} days of finite residuals, not {residuals.shape}",
                "Give more symbols, or more history",
            )
        if not (np.ptp(residuals, axis=0) > 0).all():
            raise InvalidMarketData("a series does not move, so it has no correlation", "Leave it out")
        shocks = _own(residuals)
        target = _second_moments(shocks)
        if likelihood == "full" and np.linalg.eigvalsh(correlation_of(target))[0] < SINGULAR:
            raise InvalidMarketData(
                f"{days} days of {n} symbols give a singular target",
                "Leave out symbols that repeat others, or use pairs",
            )
        if likelihood != "full":
            first, second = np.triu_indices(n, 1) if likelihood == "all_pairs" else (np.arange(n - 1), np.arange(1, n))
            together = np.abs(correlation_of(target)[first, second])
            worst = int(np.argmax(together))
            if together[worst] > 1 - SINGULAR:
                raise InvalidMarketData(
                    f"series {first[worst]} and {second[worst]} move as one, so their pair has no likelihood",
                    "Leave one of them out",
                )
        driver = np.empty_like(shocks) if corrected else shocks
        return cls(
            shocks, target, likelihood, corrected, driver, np.empty((n, n)), np.empty((n, n + 1)), np.empty(days)
        )

    @property
    def reach(self) -> int:
        """How far apart the two columns of a pair may stand; 0 for the full likelihood."""
        if self.likelihood == "full":
            return 0
        return 1 if self.likelihood == "contiguous_pairs" else int(self.shocks.shape[1]) - 1

    def log_likelihood(self, a: float, b: float) -> float:
        """Sum over days; ``daily`` holds what each adds."""
        target = self.target
        if self.corrected:
            corrected_driver(self.shocks, a, b, self.driver)
            target = correlation_of(_second_moments(self.driver))
        if self.reach:
            return float(
                pair_log_likelihood(
                    self.shocks, self.driver, target, a, b, self.reach, self.q, self.work[0], self.daily
                )
            )
        return float(full_log_likelihood(self.shocks, self.driver, target, a, b, self.q, self.work, self.daily))

    def state(self, a: float, b: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(target, q of the last day, driver) at a and b."""
        driver = _driver(self.shocks, a, b) if self.corrected else self.shocks
        target = correlation_of(_second_moments(driver)) if self.corrected else self.target
        full_log_likelihood(self.shocks, driver, target, a, b, self.q, self.work, self.daily)
        return target, np.triu(self.q) + np.triu(self.q, 1).T, driver


def _search(problem: _Problem) -> tuple[np.ndarray, int]:
    """The best point, as logits, and the likelihoods computed: a coarse grid, then a quasi-Newton search."""
    from scipy.optimize import minimize
    from scipy.special import logit

    count = 0

    def loss(point: np.ndarray) -> float:
        nonlocal count
        count += 1
        value = problem.log_likelihood(*_parameters(point))
        return -value / len(problem.shocks) if math.isfinite(value) else WORST

    starts = [np.array([logit(s), logit(x)]) for s, x in STARTS]
    losses = [loss(start) for start in starts]
    if min(losses) == WORST:
        raise InvalidMarketData(
            "the likelihood is infinite wherever it was tried", "Leave out symbols that repeat others"
        )
    found = minimize(
        loss,
        starts[int(np.argmin(losses))],
        method="L-BFGS-B",
        jac="2-point",
        bounds=(MOMENTUM_BOUNDS, SHARE_BOUNDS),
        options={"ftol": 1e-11, "gtol": 1e-6, "finite_diff_rel_step": 1e-6},
    )
    return np.asarray(found.x), count


def _parameters(point: np.ndarray) -> tuple[float, float]:
    total = 1.0 / (1.0 + math.exp(-point[0]))
    share = 1.0 / (1.0 + math.exp(-point[1]))
    return total * share, total * (1.0 - share)


def _boundary(point: np.ndarray) -> str:
    if point[1] < SHARE_BOUNDS[0] + BOUNDARY or point[0] < MOMENTUM_BOUNDS[0] + BOUNDARY:
        return "a = 0: no shock moves the correlation"
    if point[0] > MOMENTUM_BOUNDS[1] - BOUNDARY:
        return "a + b = 1: the correlation does not return to its target"
    if point[1] > SHARE_BOUNDS[1] - BOUNDARY:
        return "b = 0: the correlation forgets within a day"
    return ""


def _intervals(
    problem: _Problem, point: np.ndarray, margins: Sequence[Garch]
) -> tuple[tuple[float, float] | None, tuple[float, float] | None, str]:
    """95 % intervals of a and b from the sandwich of their two-stage influences, laid on logits and mapped back.

    The influence of a day on (a, b) is the inverse curvature times the day's score, to which comes what the day adds
    to target and margins times how the score answers to those (Newey & McFadden 1994, section 6). Influences of
    neighbouring days are correlated through the target, hence the Newey-West sum.
    """
    days = len(problem.shocks)
    scores = np.column_stack([_slope(problem, point, axis) for axis in (0, 1)])
    curvature = _curvature(problem, point) / days
    whole = problem.shocks.size * problem.shocks.shape[1] <= MAX_SLOPES
    method = "two-stage sandwich, Newey-West"
    if margins and whole and not problem.corrected:
        scores = scores + _stage_one(problem, point, margins)
    else:
        method = "sandwich of stage two, margins and target taken as known"
    if not (np.isfinite(curvature).all() and (np.linalg.eigvalsh(curvature) < 0).all()):
        return None, None, "none: the likelihood is flat at its maximum"
    influences = -np.linalg.solve(curvature, scores.T).T
    covariance = long_run_covariance(influences) / days
    a, b = _parameters(point)
    total = a + b
    share = a / total
    # d(a, b) / d(logits of a + b, of a / (a + b))
    jacobian = np.array(
        [
            [share * total * (1 - total), total * share * (1 - share)],
            [(1 - share) * total * (1 - total), -total * share * (1 - share)],
        ]
    )
    errors = np.sqrt(np.diag(jacobian @ covariance @ jacobian.T))
    return _bounded(a, errors[0]), _bounded(b, errors[1]), method


def _bounded(value: float, error: float) -> tuple[float, float]:
    """An interval within 0 and 1, symmetric in logits."""
    centre, half = math.log(value / (1 - value)), Z_INTERVAL * error / (value * (1 - value))
    return 1.0 / (1.0 + math.exp(-(centre - half))), 1.0 / (1.0 + math.exp(min(700.0, -(centre + half))))


def _slope(problem: _Problem, point: np.ndarray, axis: int) -> np.ndarray:
    """Derivative of every day's log likelihood by one logit."""
    up, down = _around(point, axis, lambda at: _daily(problem, at))
    return np.asarray((up - down) / (2 * STEP))


def _daily(problem: _Problem, point: np.ndarray) -> np.ndarray:
    problem.log_likelihood(*_parameters(point))
    return problem.daily.copy()


def _curvature(problem: _Problem, point: np.ndarray) -> np.ndarray:
    """Second derivatives of the log likelihood by the logits, by central differences."""
    wide = 10 * STEP  # second differences lose twice the digits

    def value(*moves: float) -> float:
        return problem.log_likelihood(*_parameters(point + wide * np.array(moves)))

    centre = value(0, 0)
    mixed = (value(1, 1) - value(1, -1) - value(-1, 1) + value(-1, -1)) / 4
    found = [
        [value(1, 0) - 2 * centre + value(-1, 0), mixed],
        [mixed, value(0, 1) - 2 * centre + value(0, -1)],
    ]
    return np.array(found) / wide**2


def _stage_one(problem: _Problem, point: np.ndarray, margins: Sequence[Garch]) -> np.ndarray:
    """What each day adds to the mean score through target and margins, shape (n_days, 2)."""
    shocks = problem.shocks
    days, n = shocks.shape
    slopes, work = np.empty((days, n, n)), np.empty((n, n))

    def answer(at: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        to_shocks, to_target = np.empty((days, n)), np.empty((n, n))
        a, b = _parameters(at)
        sensitivity(shocks, problem.target, a, b, problem.reach, problem.q, work, slopes, to_shocks, to_target)
        return to_shocks, to_target

    responses = []
    for axis in (0, 1):
        (up, up_target), (down, down_target) = _around(point, axis, answer)
        by_target = (up_target - down_target) / (2 * STEP * days)
        # The target is the shocks' own second moment, so a margin acts through it too.
        by_shocks = (up - down) / (2 * STEP * days) + 2.0 / days * shocks @ by_target
        responses.append((by_shocks, by_target))
    added = np.empty((days, 2))
    for axis, (_, by_target) in enumerate(responses):
        added[:, axis] = ((shocks @ by_target) * shocks).sum(axis=1) - (by_target * problem.target).sum()
    for column, margin in enumerate(margins):
        influence, moves = _margin_influence(margin)
        for axis, (by_shocks, _) in enumerate(responses):
            added[:, axis] += influence @ (by_shocks[:, column] @ moves)
    return added


def _margin_influence(margin: Garch) -> tuple[np.ndarray, np.ndarray]:
    """How each day moves the fitted (mu, omega, alpha, beta), and how those move each day's residual.

    Returns
    -------
    influence : ndarray of shape (n_days, 4)
        Inverse mean information times the day's score (Bollerslev & Wooldridge 1992).
    moves : ndarray of shape (n_days, 4)
        d z / d parameters.
    """
    from scipy.signal import lfilter

    z, h = margin.residuals, margin.variances
    shocks = z * np.sqrt(h)
    start = float(h.mean())
    drivers = (
        -2 * margin.alpha * _day_before(shocks, 0.0),
        np.ones_like(z),
        _day_before(shocks**2, start),
        _day_before(h, start),
    )
    by_h = np.column_stack([lfilter([1.0], [1.0, -margin.beta], driver) for driver in drivers])
    by_shock = np.zeros_like(by_h)
    by_shock[:, 0] = -1.0
    score = 0.5 * ((z**2 - 1) / h)[:, None] * by_h - (shocks / h)[:, None] * by_shock
    relative = by_h / h[:, None]
    information = 0.5 * relative.T @ relative + (by_shock / h[:, None]).T @ by_shock
    moves = by_shock / np.sqrt(h)[:, None] - 0.5 * z[:, None] * relative
    # Parameters live on scales 1e-6 to 1: without scaling them the solve would lose its digits.
    scale = 1.0 / np.sqrt(np.diag(information))
    conditioned = information * np.outer(scale, scale)
    influence = np.linalg.solve(conditioned, (score * scale).T).T * scale * len(z)
    return influence, moves


def _day_before(series: np.ndarray, first: float) -> np.ndarray:
    return np.concatenate([[first], series[:-1]])


def _around(point: np.ndarray, axis: int, function: Callable[[np.ndarray], Found]) -> tuple[Found, Found]:
    step = np.zeros(2)
    step[axis] = STEP
    return function(point + step), function(point - step)


def _own(residuals: np.ndarray) -> np.ndarray:
    """A copy: kernels are compiled for contiguous arrays that may be written."""
    return np.array(residuals, dtype=float, order="C")


def _second_moments(shocks: np.ndarray) -> np.ndarray:
    return np.asarray(shocks.T @ shocks / len(shocks))


def _driver(shocks: np.ndarray, a: float, b: float) -> np.ndarray:
    driver = np.empty_like(shocks)
    corrected_driver(shocks, a, b, driver)
    return driver


def _next(target: np.ndarray, q: np.ndarray, driver: np.ndarray, a: float, b: float) -> np.ndarray:
    return np.asarray((1 - a - b) * target + a * np.outer(driver, driver) + b * q)
