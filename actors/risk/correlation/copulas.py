"""Copulas: how returns depend on each other once their own laws are taken out, and how they fall together.

Observations are ranks over n + 1 (Genest, Ghoudi & Rivest 1995). Families: Gaussian and Student-t (Demarta & McNeil
2005), Clayton (1978) and Gumbel (1960), by maximum likelihood from Kendall's tau as the start, chosen by AIC. Tail
dependence is the chance that one symbol is beyond an extreme quantile given that the other is: ``lower`` for falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.risk.covariance import correlation_of, long_run_covariance
from actors.risk.measures import Z_INTERVAL
from cluster.errors import InvalidMarketData

MIN_DAYS = 100
RHO_LIMIT = 0.9999
DEGREES = (1.5, 200.0)  # searched; beyond 200 a t copula is a Gaussian one
THETA_LIMIT = 50.0  # of Clayton and of Gumbel: Kendall's tau of 0.96 and 0.98
SINGULAR = 1e-6  # least eigenvalue of a correlation below which some symbols say the same
START_TAU = 0.9  # a search that starts at a limit does not leave it
STEP = 1e-4  # of derivatives, in the units of the search
CHI2_95 = 3.841458820694124  # 95 % quantile of chi-squared with one degree


@dataclass(frozen=True)
class Family:
    """One copula of two symbols."""

    name: str
    names: tuple[str, ...]
    """Of its parameters."""
    density: Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]
    """(u, v, parameters) -> log density, shape (n_observations,)."""
    free: Callable[[np.ndarray], np.ndarray]
    """Parameters -> the unbounded numbers that are searched."""
    bound: Callable[[np.ndarray], np.ndarray]
    """The way back."""
    start: Callable[[float], np.ndarray]
    """Parameters with this Kendall's tau."""
    tails: Callable[[np.ndarray], tuple[float, float]]
    """Parameters -> tail dependence (lower, upper)."""
    falls_and_rises: bool
    """Whether it can also describe symbols that move against each other."""


@dataclass(frozen=True)
class PairFit:
    """A copula fitted to two symbols."""

    family: str
    parameters: dict[str, float]
    log_likelihood: float
    aic: float
    bic: float
    lower: float
    """Lower tail dependence."""
    upper: float
    lower_bounds: tuple[float, float] | None
    """95 % interval; None where the family's is fixed at zero, or the likelihood is flat."""
    upper_bounds: tuple[float, float] | None


@dataclass(frozen=True)
class BookFit:
    """A copula fitted to all symbols of a book."""

    family: str
    correlation: np.ndarray
    """Shape (n, n)."""
    degrees: float | None
    """Of the t copula."""
    degrees_bounds: tuple[float, float] | None
    """95 % interval by profile likelihood, days taken as independent."""
    log_likelihood: float
    aic: float
    bic: float


def pseudo_observations(returns: np.ndarray) -> np.ndarray:
    """Ranks over n + 1, ties shared, each column by itself.

    Raises
    ------
    InvalidMarketData
        Fewer than ``MIN_DAYS`` days, a value that is not finite, or a column that does not move.
    """
    from scipy.stats import rankdata

    if len(returns) < MIN_DAYS or not np.isfinite(returns).all():
        raise InvalidMarketData(f"a copula needs {MIN_DAYS} days of finite returns", "Give more history")
    if not (np.ptp(returns, axis=0) > 0).all():
        raise InvalidMarketData("a series does not move, so it depends on nothing", "Leave it out")
    return np.asarray(rankdata(returns, axis=0) / (len(returns) + 1))


def fit_pair(u: np.ndarray, v: np.ndarray, family: str) -> PairFit | None:
    """Maximum-likelihood copula of two columns of pseudo-observations.

    Intervals are by the delta method from influences that carry the error of the ranks, summed over neighbouring days
    (Newey & West 1987), and lie on logits.

    Returns
    -------
    PairFit, or None where the family cannot describe the pair: Clayton and Gumbel know no negative dependence.
    """
    from scipy.optimize import minimize

    chosen = FAMILIES[family]
    tau = kendall_tau(u, v)
    if tau <= 0 and not chosen.falls_and_rises:
        return None

    def loss(point: np.ndarray) -> float:
        value = -float(chosen.density(u, v, chosen.bound(point)).mean())
        return value if math.isfinite(value) else 1e10

    found = minimize(
        loss, chosen.free(chosen.start(min(tau, START_TAU))), method="L-BFGS-B", jac="3-point", options={"ftol": 1e-13}
    )
    parameters = chosen.bound(found.x)
    total, count = -loss(found.x) * len(u), len(parameters)
    lower, upper = chosen.tails(parameters)
    covariance = _covariance(u, v, chosen, found.x)
    return PairFit(
        family=family,
        parameters=dict(zip(chosen.names, parameters.tolist(), strict=True)),
        log_likelihood=total,
        aic=2 * count - 2 * total,
        bic=count * math.log(len(u)) - 2 * total,
        lower=lower,
        upper=upper,
        lower_bounds=_tail_bounds(chosen, found.x, covariance, 0),
        upper_bounds=_tail_bounds(chosen, found.x, covariance, 1),
    )


def fit_book(observations: np.ndarray, family: str) -> BookFit:
    """Gaussian or t copula of all columns: correlations by (re-weighted) normal scores, degrees by profile likelihood.

    Parameters
    ----------
    observations : ndarray of shape (n_observations, n)
        Pseudo-observations, more days than columns.

    Raises
    ------
    InvalidMarketData
        Columns as many as days, or one that repeats others.
    """
    days, n = observations.shape
    pairs = n * (n - 1) // 2
    if family == "gaussian":
        from scipy.special import ndtri

        scores = ndtri(observations)
        correlation = _definite(correlation_of(scores.T @ scores), days)
        total = _gaussian_book(scores, correlation)
        return BookFit(
            family, correlation, None, None, total, 2 * pairs - 2 * total, pairs * math.log(days) - 2 * total
        )
    from scipy.optimize import brentq, minimize_scalar

    quantiles = _StudentQuantiles(observations)
    known: dict[float, tuple[float, np.ndarray]] = {}

    def profile(log_degrees: float) -> float:
        if log_degrees not in known:
            start = next(reversed(known.values()))[1] if known else None
            degrees = math.exp(log_degrees)
            known[log_degrees] = _student_book(quantiles(degrees), degrees, start)
        return known[log_degrees][0]

    low, high = (math.log(bound) for bound in DEGREES)
    best = float(
        minimize_scalar(lambda x: -profile(x), bounds=(low, high), method="bounded", options={"xatol": 1e-3}).x
    )
    total = profile(best)

    def drop(x: float) -> float:
        return 2 * (total - profile(x)) - CHI2_95

    bounds = tuple(
        math.exp(brentq(drop, min(end, best), max(end, best), xtol=1e-3) if drop(end) > 0 else end)
        for end in (low, high)
    )
    count = pairs + 1
    return BookFit(
        family="student_t",
        correlation=known[best][1],
        degrees=math.exp(best),
        degrees_bounds=(bounds[0], bounds[1]),
        log_likelihood=total,
        aic=2 * count - 2 * total,
        bic=count * math.log(days) - 2 * total,
    )


class _StudentQuantiles:
    """Quantiles of Student's law at ranks: columns share their values, and halves mirror each other, so few differ."""

    def __init__(self, observations: np.ndarray) -> None:
        self._below = observations < 0.5
        folded = np.where(self._below, observations, 1 - observations).round(15)
        self._values, self._places = np.unique(folded, return_inverse=True)

    def __call__(self, degrees: float) -> np.ndarray:
        from scipy.special import stdtrit

        found = stdtrit(degrees, self._values)[self._places].reshape(self._below.shape)
        return np.asarray(np.where(self._below, found, -found))


def kendall_tau(u: np.ndarray, v: np.ndarray) -> float:
    """Kendall's tau-b."""
    from scipy.stats import kendalltau

    return float(kendalltau(u, v).statistic)


def student_tail(rho: float | np.ndarray, degrees: float) -> np.ndarray:
    """Tail dependence of a t copula, the same below and above: 2 t_{nu+1}(-sqrt((nu + 1)(1 - rho) / (1 + rho)))."""
    from scipy.special import stdtr

    return np.asarray(2 * stdtr(degrees + 1, -np.sqrt((degrees + 1) * (1 - rho) / (1 + rho))))


def _gaussian_density(u: np.ndarray, v: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    x, y, rho = ndtri(u), ndtri(v), float(parameters[0])
    rest = 1 - rho**2
    return np.asarray(-0.5 * math.log(rest) - (rho**2 * (x**2 + y**2) - 2 * rho * x * y) / (2 * rest))


def _student_density(u: np.ndarray, v: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    from scipy.special import gammaln

    rho, nu = float(parameters[0]), float(parameters[1])
    x, y = _StudentQuantiles(np.array([u, v]))(nu)
    rest = 1 - rho**2
    constant = gammaln(nu / 2 + 1) + gammaln(nu / 2) - 2 * gammaln((nu + 1) / 2) - 0.5 * math.log(rest)
    together = np.log1p((x**2 + y**2 - 2 * rho * x * y) / (nu * rest))
    alone = np.log1p(x**2 / nu) + np.log1p(y**2 / nu)
    return np.asarray(constant - (nu / 2 + 1) * together + (nu + 1) / 2 * alone)


def _clayton_density(u: np.ndarray, v: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    theta = float(parameters[0])
    x, y = -theta * np.log(u), -theta * np.log(v)
    most = np.maximum(x, y)
    summed = most + np.log(np.exp(x - most) + np.exp(y - most) - np.exp(-most))  # log(u^-theta + v^-theta - 1)
    return np.asarray(math.log1p(theta) + (1 + theta) * (x + y) / theta - (2 + 1 / theta) * summed)


def _gumbel_density(u: np.ndarray, v: np.ndarray, parameters: np.ndarray) -> np.ndarray:
    theta = float(parameters[0])
    x, y = -np.log(u), -np.log(v)
    log_x, log_y = np.log(x), np.log(y)
    log_sum = np.logaddexp(theta * log_x, theta * log_y)
    root = np.exp(log_sum / theta)
    return np.asarray(
        x + y - root + (theta - 1) * (log_x + log_y) + (1 / theta - 2) * log_sum + np.log(root + theta - 1)
    )


def _rho_of(tau: float) -> float:
    return float(np.clip(math.sin(math.pi * tau / 2), -0.99, 0.99))


def _student_free(parameters: np.ndarray) -> np.ndarray:
    return np.array([math.atanh(parameters[0] / RHO_LIMIT), _logit_degrees(parameters[1])])


def _student_bound(point: np.ndarray) -> np.ndarray:
    low, high = (math.log(bound) for bound in DEGREES)
    return np.array([RHO_LIMIT * math.tanh(point[0]), math.exp(low + (high - low) / (1 + math.exp(-point[1])))])


def _logit_degrees(degrees: float) -> float:
    low, high = (math.log(bound) for bound in DEGREES)
    share = (math.log(degrees) - low) / (high - low)
    return math.log(share / (1 - share))


def _positive_bound(point: np.ndarray) -> np.ndarray:
    return np.asarray(THETA_LIMIT / (1 + np.exp(-point)))


def _positive_free(parameters: np.ndarray) -> np.ndarray:
    return np.asarray(np.log(parameters / (THETA_LIMIT - parameters)))


def _no_tails(parameters: np.ndarray) -> tuple[float, float]:
    return 0.0, 0.0


def _student_tails(parameters: np.ndarray) -> tuple[float, float]:
    both = float(student_tail(float(parameters[0]), float(parameters[1])))
    return both, both


FAMILIES = {
    family.name: family
    for family in (
        Family(
            "gaussian",
            ("rho",),
            _gaussian_density,
            lambda p: np.arctanh(p / RHO_LIMIT),
            lambda x: RHO_LIMIT * np.tanh(x),
            lambda tau: np.array([_rho_of(tau)]),
            _no_tails,
            True,
        ),
        Family(
            "student_t",
            ("rho", "degrees"),
            _student_density,
            _student_free,
            _student_bound,
            lambda tau: np.array([_rho_of(tau), 6.0]),
            _student_tails,
            True,
        ),
        Family(
            "clayton",
            ("theta",),
            _clayton_density,
            _positive_free,
            _positive_bound,
            lambda tau: np.array([min(2 * tau / (1 - tau), THETA_LIMIT / 2)]),
            lambda p: (float(2 ** (-1 / p[0])), 0.0),
            False,
        ),
        Family(
            "gumbel",
            ("theta",),
            _gumbel_density,
            lambda p: _positive_free(p - 1),
            lambda x: 1 + _positive_bound(x),
            lambda tau: np.array([min(1 / (1 - tau), THETA_LIMIT / 2)]),
            lambda p: (0.0, float(2 - 2 ** (1 / p[0]))),
            False,
        ),
    )
}


def _covariance(u: np.ndarray, v: np.ndarray, family: Family, point: np.ndarray) -> np.ndarray | None:
    """Covariance of the searched numbers, ranks and dependent days counted; None where the likelihood is flat.

    A day acts on the fit by its own score, and by shifting every later rank: the second part of the influence is the
    mean over days j of d score_j / d u_j (1{u_i <= u_j} - u_j), and the same in v.
    """
    count = len(point)

    def density(a: np.ndarray, b: np.ndarray, at: np.ndarray) -> np.ndarray:
        return family.density(a, b, family.bound(at))

    def scores(a: np.ndarray, b: np.ndarray) -> np.ndarray:
        steps = STEP * np.eye(count)
        return np.column_stack([(density(a, b, point + s) - density(a, b, point - s)) / (2 * STEP) for s in steps])

    wide = 30 * STEP * np.eye(count)  # second differences lose twice the digits
    curvature = np.empty((count, count))
    for i in range(count):
        for j in range(count):
            corners = [
                density(u, v, point + p * wide[i] + q * wide[j]).mean() * p * q for p in (1, -1) for q in (1, -1)
            ]
            curvature[i, j] = sum(corners) / (4 * (30 * STEP) ** 2)
    if not (np.isfinite(curvature).all() and (np.linalg.eigvalsh(curvature) < 0).all()):
        return None
    influence = scores(u, v)
    for axis, column in enumerate((u, v)):
        step = STEP * column * (1 - column)
        moved = [(column + sign * step, v) if axis == 0 else (u, column + sign * step) for sign in (1, -1)]
        slope = (scores(*moved[0]) - scores(*moved[1])) / (2 * step)[:, None]
        order = np.argsort(column, kind="stable")
        above = np.empty_like(slope)
        above[order] = np.cumsum(slope[order][::-1], axis=0)[::-1]
        influence += (above - (slope * column[:, None]).sum(axis=0)) / len(column)
    inverse = np.linalg.inv(curvature)
    return np.asarray(inverse @ long_run_covariance(influence) @ inverse / len(u))


def _tail_bounds(
    family: Family, point: np.ndarray, covariance: np.ndarray | None, side: int
) -> tuple[float, float] | None:
    value = family.tails(family.bound(point))[side]
    if covariance is None or not 0 < value < 1:
        return None

    def logit(at: np.ndarray) -> float:
        tail = family.tails(family.bound(at))[side]
        return math.log(tail / (1 - tail))

    slope = np.array([(logit(point + s) - logit(point - s)) / (2 * STEP) for s in STEP * np.eye(len(point))])
    half = Z_INTERVAL * math.sqrt(float(slope @ covariance @ slope))
    centre = logit(point)
    return 1 / (1 + math.exp(min(700.0, half - centre))), 1 / (1 + math.exp(max(-700.0, -half - centre)))


def _definite(correlation: np.ndarray, days: int) -> np.ndarray:
    if len(correlation) >= days or np.linalg.eigvalsh(correlation)[0] < SINGULAR:
        raise InvalidMarketData(
            f"{days} days of {len(correlation)} symbols give a singular copula", "Leave out symbols that repeat others"
        )
    return correlation


def _gaussian_book(scores: np.ndarray, correlation: np.ndarray) -> float:
    """Log likelihood of a Gaussian copula."""
    _, log_det = np.linalg.slogdet(correlation)
    forms = (np.linalg.solve(correlation, scores.T).T * scores).sum(axis=1) - (scores**2).sum(axis=1)
    return float(-0.5 * (len(scores) * log_det + forms.sum()))


def _student_book(scores: np.ndarray, degrees: float, start: np.ndarray | None) -> tuple[float, np.ndarray]:
    """(Log likelihood, correlation) of a t copula at its quantiles; the correlation by re-weighting until it stays."""
    from scipy.special import gammaln

    days, n = scores.shape
    correlation = _definite(correlation_of(scores.T @ scores), days) if start is None else start
    for _ in range(200):
        forms = (np.linalg.solve(correlation, scores.T).T * scores).sum(axis=1)
        weighted = scores * ((degrees + n) / (degrees + forms))[:, None]
        following = _definite(correlation_of(weighted.T @ scores), days)
        moved = float(np.abs(following - correlation).max())
        correlation = following
        if moved < 1e-8:
            break
    forms = (np.linalg.solve(correlation, scores.T).T * scores).sum(axis=1)
    _, log_det = np.linalg.slogdet(correlation)
    constant = gammaln((degrees + n) / 2) + (n - 1) * gammaln(degrees / 2) - n * gammaln((degrees + 1) / 2)
    total = days * (constant - 0.5 * log_det)
    total -= (degrees + n) / 2 * float(np.log1p(forms / degrees).sum())
    total += (degrees + 1) / 2 * float(np.log1p(scores**2 / degrees).sum())
    return float(total), correlation
