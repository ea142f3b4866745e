"""VaR by a simulated quantum computer: maximum-likelihood amplitude estimation, for teaching and comparison only.

The losses are put on 2^n points. A state holds the square roots of their probabilities; a Grover step turns it by twice
the angle whose squared sine is the probability a of the points beyond a threshold, and measuring after k steps finds
them with probability sin^2((2k + 1) arcsin sqrt(a)). Shots after several k give a likelihood of a (Suzuki et al. 2020),
and bisection on the threshold gives VaR. Simulating the state enumerates the whole distribution, so the exact answer is
known before the first step: nothing is gained here over reading it off, and the answer says so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.value_at_risk.outcome import Outcome, figure
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidRequest
from hive.messages.calculation import Parameters

MAX_QUBITS = 16
GRID = 4096  # angles at which the likelihood is looked at before it is refined


@dataclass(frozen=True)
class Amplified:
    """VaR by amplitude estimation, with what it cost and what plain sampling does with the same calls."""

    var: float
    lower: float
    upper: float
    exact: float
    """VaR of the discretised distribution, read off."""
    oracle_calls: int
    """Uses of the state's preparation, over all thresholds."""
    plain_error: float
    """Standard error of the probability that plain sampling would have with those calls at one threshold."""
    amplified_error: float
    """The same of amplitude estimation, from its Fisher information."""


def amplified_var(
    losses: np.ndarray,
    confidence: float,
    seed: int,
    *,
    qubits: int = 8,
    powers: tuple[int, ...] = (0, 1, 2, 4, 8, 16, 32),
    shots: int = 64,
) -> Amplified:
    """VaR of losses, shape (n,), put on 2^qubits equal bins.

    Raises
    ------
    InvalidRequest
        More qubits than ``MAX_QUBITS``: a state of them is not simulated here.
    """
    if not 2 <= qubits <= MAX_QUBITS:
        raise InvalidRequest(f"{qubits} qubits are not simulated here", f"Ask for 2 to {MAX_QUBITS}")
    counts, edges = np.histogram(losses, bins=2**qubits)
    middles, amplitudes = (edges[1:] + edges[:-1]) / 2, np.sqrt(counts / len(losses))
    rng = np.random.default_rng(seed)
    beyond = np.cumsum(counts[::-1])[::-1] / len(losses)
    exact = float(middles[np.flatnonzero(beyond > 1 - confidence)[-1]])
    low, high = 0, 2**qubits - 1  # VaR is the highest bin from which more than 1 - confidence lies beyond
    calls_each = shots * sum(2 * power + 1 for power in powers)
    thresholds = 0
    probability, error = 1.0, 0.0
    while low < high:
        middle = (low + high + 1) // 2
        found, spread = _probability(amplitudes, middle, powers, shots, rng)
        thresholds += 1
        if found > 1 - confidence:
            low, probability, error = middle, found, spread
        else:
            high = middle - 1
    error = error or math.sqrt(confidence * (1 - confidence) / (calls_each or 1))
    reach = 1.96 * error
    inside = np.flatnonzero(beyond > 1 - confidence + reach)
    outside = np.flatnonzero(beyond > max(0.0, 1 - confidence - reach))
    tail = probability if probability < 1 else 1 - confidence
    return Amplified(
        var=float(middles[low]),
        lower=float(min(middles[inside[-1]] if len(inside) else edges[0], middles[low])),
        upper=float(max(middles[outside[-1]], middles[low])),
        exact=exact,
        oracle_calls=thresholds * calls_each,
        plain_error=math.sqrt(tail * (1 - tail) / calls_each),
        amplified_error=error,
    )


def _probability(
    amplitudes: np.ndarray, threshold: int, powers: tuple[int, ...], shots: int, rng: np.random.Generator
) -> tuple[float, float]:
    """(estimate, standard error) of the probability of the bins from ``threshold`` on."""
    good = np.arange(len(amplitudes)) >= threshold
    hits = []
    state = amplitudes.copy()
    step = 0
    for power in powers:
        while step < power:
            state[good] *= -1.0  # the oracle's phase, then the reflection about the prepared state
            state = 2.0 * amplitudes * float(amplitudes @ state) - state
            step += 1
        hits.append(rng.binomial(shots, min(1.0, float((state[good] ** 2).sum()))))
    turns = 2 * np.array(powers) + 1
    counts = np.array(hits)

    def log_likelihood(angles: np.ndarray) -> np.ndarray:
        chance = np.clip(np.sin(turns * angles[:, None]) ** 2, 1e-12, 1 - 1e-12)
        return np.asarray((counts * np.log(chance) + (shots - counts) * np.log(1 - chance)).sum(axis=1))

    angles = (np.arange(GRID) + 0.5) * (math.pi / 2 / GRID)
    best = angles[int(np.argmax(log_likelihood(angles)))]
    fine = best + np.linspace(-1, 1, GRID) * (math.pi / 2 / GRID)
    best = float(fine[int(np.argmax(log_likelihood(fine)))])
    # Fisher information of the angle is 4 shots (2k + 1)^2 a power, and da / dangle = sin 2 angle.
    return math.sin(best) ** 2, abs(math.sin(2 * best)) / (2 * math.sqrt(shots * float((turns**2).sum())))


def estimate(daily: np.ndarray, parameters: Parameters, settings: ValueAtRiskSettings) -> Outcome:
    """VaR of the book's daily losses by simulated amplitude estimation, one day ahead.

    Raises
    ------
    InvalidRequest
        The horizon is longer than a day.
    """
    if parameters.horizon_days != 1:
        raise InvalidRequest("mlae_sim estimates one day", "Ask for a horizon of 1, or for another method")
    found = [amplified_var(-daily, level, parameters.seed, qubits=settings.qubits) for level in parameters.confidences]
    return Outcome(
        tuple(
            figure(
                "var",
                one.var,
                label="mlae_sim",
                convention=f"bin of the empirical distribution on 2^{settings.qubits} points",
                samples=len(daily),
                confidence=confidence,
                horizon_days=1,
                bounds=(one.lower, one.upper),
                how="Fisher information of the amplitude, whole bins",
            )
            for one, confidence in zip(found, parameters.confidences, strict=True)
        ),
        tuple(
            f"mlae_sim at {confidence:g}: {one.oracle_calls} oracle calls; the probability at one threshold is known "
            f"to {one.amplified_error:.1e}, plain sampling with its calls to {one.plain_error:.1e}; the simulation "
            f"enumerates the distribution, whose VaR is {one.exact:.5f} exactly"
            for one, confidence in zip(found, parameters.confidences, strict=True)
        ),
    )
