"""VaR and CVaR by simulation: a model fitted to the window, a sampling method, and the noise that the method leaves.

The interval of a simulated figure is that of the simulation alone: how far another seed would have moved it. It says
nothing of how right the model is; a backtest does.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import position_returns
from actors.risk.measures import CONVENTION_CVAR, CONVENTION_VAR, empirical, tail
from actors.risk.sampling import Gaussian, StudentT, fitted_degrees, uniforms
from actors.risk.value_at_risk import mc_kernels
from actors.risk.value_at_risk.outcome import Outcome, figure, over
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from actors.risk.value_at_risk.variance_reduction import STRATA, quadratic, strata_weights, twist, weighted_tail
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Parameters
from hive.messages.estimate import INTERVAL_LEVEL, Estimate
from hive.messages.portfolio import Book

METHODS = ("mc_plain", "mc_antithetic", "mc_control_variate", "mc_stratified", "mc_importance", "qmc_sobol")
FEW_BEYOND = 10  # samples of a replication beyond a quantile, below which its bias is no longer small
PILOT = 2**12  # draws of the quadratic approximation that say where importance sampling should aim
LABELS = {"student_t": "Student-t", "gaussian": "normal"}

Losses = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Fitted:
    """The moves of a horizon as the window suggests them, and the book's first and second order in them."""

    mean: np.ndarray
    covariance: np.ndarray
    degrees: float
    """Infinite for normal moves."""
    delta: np.ndarray
    gamma: np.ndarray

    def model(self, direction: np.ndarray | None = None) -> Gaussian | StudentT:
        """The law to draw from."""
        if self.degrees == math.inf:
            return Gaussian(self.mean, self.covariance, direction=direction)
        return StudentT(self.mean, self.covariance, self.degrees, direction=direction)


def estimate(
    book: Book, moves: np.ndarray, method: str, parameters: Parameters, settings: ValueAtRiskSettings
) -> Outcome:
    """VaR and CVaR of a book by one of :data:`METHODS`.

    Parameters
    ----------
    moves : ndarray of shape (n_observations, n_moved)
        History of everything that moves the book (:func:`actors.risk.exposures.moved_columns`).

    Raises
    ------
    InvalidMarketData
        Too few or not finite moves, or a book without risk where a method needs one.
    InvalidRequest
        The samples cannot be split as the method needs them.
    """
    fitted = fit(book, moves, parameters.horizon_days, settings.mc_model)

    def losses(drawn: np.ndarray) -> np.ndarray:
        return np.asarray(-(position_returns(book, np.maximum(drawn, -1.0)) @ book.weights))

    label = over(method, parameters.horizon_days, "sqrt_time")
    convention = f"{LABELS[settings.mc_model]} moves, shrunk covariance" + (
        f", {fitted.degrees:.1f} degrees" if fitted.degrees < math.inf else ""
    )
    if method == "mc_plain":
        return _plain(book, fitted, losses, label, convention, parameters, settings)
    size = settings.mc_samples // settings.mc_replications
    if method == "qmc_sobol" and size & (size - 1):
        raise InvalidRequest(
            f"{settings.mc_samples} samples in {settings.mc_replications} replications make nets of {size} points",
            "Set value_at_risk.mc_samples and mc_replications to powers of two",
        )
    seeds = np.random.SeedSequence([parameters.seed, METHODS.index(method)]).spawn(settings.mc_replications)
    found = np.array([_replicate(method, fitted, losses, size, seed, parameters.confidences) for seed in seeds])
    warnings = tuple(
        f"{method}: about {size * (1 - confidence):.0f} of {size} samples of a replication lie beyond the "
        f"{confidence:g} quantile: biased low by more than its interval says; use mc_importance, or raise "
        "value_at_risk.mc_samples"
        for confidence in parameters.confidences
        if method != "mc_importance" and size * (1 - confidence) < FEW_BEYOND
    )
    return Outcome(_figures(found, size, label, convention, parameters), warnings)


def fit(book: Book, moves: np.ndarray, horizon_days: int, kind: str) -> Fitted:
    """Mean and shrunk covariance of the window over the horizon, independent days; degrees by maximum likelihood."""
    covariance, _ = ledoit_wolf(moves)
    mean = moves.mean(axis=0)
    n = len(book.symbols)
    delta, gamma = np.zeros(len(mean)), np.zeros(len(mean))
    delta[:n], gamma[:n] = book.weights, book.weights * book.gammas
    rates = list(dict.fromkeys(rate for rate in book.exchange if rate))
    for position, rate in enumerate(book.exchange):
        if rate:
            delta[n + rates.index(rate)] += book.weights[position] * book.exchange_powers[position]
    degrees = fitted_degrees(moves - mean) if kind == "student_t" else math.inf
    return Fitted(mean * horizon_days, covariance * horizon_days, degrees, delta, gamma)


def _plain(
    book: Book,
    fitted: Fitted,
    losses: Losses,
    label: str,
    convention: str,
    parameters: Parameters,
    settings: ValueAtRiskSettings,
) -> Outcome:
    """All samples at once: the interval is that of order statistics. The compiled kernel draws for one currency."""
    if any(book.exchange):
        model = fitted.model()
        sample = losses(model.transform(uniforms("plain", settings.mc_samples, model.inputs, parameters.seed)))
    else:
        sample = _compiled(book, fitted, parameters, settings)
    return Outcome(
        tuple(
            found
            for confidence in parameters.confidences
            for found in empirical(
                sample,
                confidence,
                label=label,
                horizon_days=parameters.horizon_days,
                overlap=1,
                independent=f"draws; {convention}",
            )
        )
    )


def _compiled(book: Book, fitted: Fitted, parameters: Parameters, settings: ValueAtRiskSettings) -> np.ndarray:
    buffers = mc_kernels.buffers_for(settings.mc_samples, len(book.symbols))
    jitter = 1e-14 * float(np.trace(fitted.covariance)) / len(fitted.mean)  # a symbol that stands still has a root too
    root = np.linalg.cholesky(fitted.covariance + jitter * np.eye(len(fitted.mean)))
    if fitted.degrees < math.inf:
        root = root * math.sqrt((fitted.degrees - 2) / fitted.degrees)
    seed = int(np.random.SeedSequence(parameters.seed).generate_state(1, np.uint64)[0])
    mc_kernels.simulate(
        np.uint64(seed),
        fitted.mean,
        root,
        book.weights.copy(),
        book.gammas.copy(),
        fitted.degrees,
        parameters.confidences[0],
        buffers,
        np.empty(len(book.symbols)),
    )
    return buffers[0]


def _replicate(
    method: str,
    fitted: Fitted,
    losses: Losses,
    size: int,
    seed: np.random.SeedSequence,
    confidences: tuple[float, ...],
) -> list[tuple[float, float]]:
    """(VaR, CVaR) by confidence from one independent randomisation."""
    if method == "mc_importance":
        return [_rare(fitted, losses, size, seed, confidence) for confidence in confidences]
    if method == "mc_control_variate":
        model = fitted.model()
        drawn = model.transform(uniforms("plain", size, model.inputs, seed))
        weights = strata_weights(-(drawn @ fitted.delta), *_linear_strata(fitted))
        sample = losses(drawn)
        return [weighted_tail(sample, weights, confidence) for confidence in confidences]
    points = {"mc_antithetic": "antithetic", "mc_stratified": "stratified", "qmc_sobol": "sobol"}[method]
    model = fitted.model(direction=None if method == "mc_antithetic" else fitted.delta)
    even = size + size % 2 if points == "antithetic" else size
    sample = losses(model.transform(uniforms(points, even, model.inputs, seed)))  # type: ignore[arg-type]
    return [tail(sample, confidence) for confidence in confidences]


def _linear_strata(fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
    """Edges and probabilities of the book's linear loss, whose law is that of the moves."""
    from scipy.special import ndtri, stdtrit

    deviation = math.sqrt(max(0.0, float(fitted.delta @ fitted.covariance @ fitted.delta)))
    if not deviation > 0:
        raise InvalidMarketData("the book's linear part has no risk to be a control", "Use another method")
    probabilities = np.array(STRATA)
    if fitted.degrees == math.inf:
        quantiles = ndtri(probabilities)
    else:
        quantiles = stdtrit(fitted.degrees, probabilities) * math.sqrt((fitted.degrees - 2) / fitted.degrees)
    return -float(fitted.delta @ fitted.mean) + deviation * quantiles, probabilities


def _rare(
    fitted: Fitted, losses: Losses, size: int, seed: np.random.SeedSequence, confidence: float
) -> tuple[float, float]:
    """One tail from draws twisted to where the book's quadratic approximation has its VaR."""
    model = fitted.model()
    form = quadratic(fitted.mean, model.root, fitted.delta, fitted.gamma)
    pilot = model.transform(uniforms("plain", PILOT, model.inputs, 0))
    target = tail(-(pilot @ fitted.delta + 0.5 * (pilot**2 @ fitted.gamma)), confidence)[0]
    found = twist(form, target, fitted.degrees)
    stream = np.random.SeedSequence([*map(int, seed.generate_state(4)), round(confidence * 1e6)])
    shifted, ratios = found.draw(uniforms("plain", size, found.inputs, stream))
    return weighted_tail(losses(fitted.mean + shifted), ratios, confidence)


def _figures(found: np.ndarray, size: int, label: str, convention: str, parameters: Parameters) -> tuple[Estimate, ...]:
    """Means over replications, shape (replications, confidences, 2), with their Student-t intervals."""
    from scipy.special import stdtrit

    repeats = len(found)
    reach = float(stdtrit(repeats - 1, 0.5 + INTERVAL_LEVEL / 2)) / math.sqrt(repeats)
    means, halves = found.mean(axis=0), reach * found.std(axis=0, ddof=1)
    return tuple(
        figure(
            measure,
            float(means[row, column]),
            label=label,
            convention=f"{(CONVENTION_VAR, CONVENTION_CVAR)[column]}; {convention}",
            samples=repeats * size,
            confidence=confidence,
            horizon_days=parameters.horizon_days,
            bounds=(float(means[row, column] - halves[row, column]), float(means[row, column] + halves[row, column])),
            how=f"replication, {repeats} independent randomisations of {size} samples",
        )
        for row, confidence in enumerate(parameters.confidences)
        for column, measure in enumerate(("var", "cvar"))
    )
