"""Choices of whole positions: exact by branch and bound, and by annealing and a simulated circuit beside it."""

from __future__ import annotations

import numpy as np

from actors.risk.portfolio import annealing, vqe
from actors.risk.portfolio.constraints import Constraints
from actors.risk.portfolio.kernels import BoxMinimumVariance
from actors.risk.portfolio.settings import PortfolioSettings
from cluster.errors import InvalidRequest
from hive.messages.reports import DiscreteChoice

METHODS = ("annealing", "sqa_sim", "vqe_sim")
MAX_NODES = 200_000  # of the branch and bound, beyond which its best answer is not proved


def best_support(
    covariance: np.ndarray, constraints: Constraints, rewards: np.ndarray | None = None
) -> np.ndarray | None:
    """Least w'Sw / 2 - r'w with at most ``max_positions`` positions, proved; None where other constraints interfere.

    Branch and bound over which positions are out (Bertsimas & Shioda 2009): leaving the count free gives a bound, and
    the largest position not yet decided on is branched on. Unknowns must be allowed to be zero.

    Parameters
    ----------
    rewards : ndarray of shape (n,), optional
        r, in the covariance's period; none is least variance.
    """
    limits = (constraints.max_turnover, constraints.max_gross, constraints.target_return)
    count = constraints.max_positions
    if count is None or constraints.groups or any(limit is not None for limit in limits):
        return None
    if (constraints.lower > 0).any() or (constraints.upper < 0).any():
        return None
    pull = np.zeros(len(covariance)) if rewards is None else rewards
    best, least = None, np.inf
    stack = [(np.ones(len(covariance), bool), np.zeros(len(covariance), bool))]  # (may be held, must be kept)
    for _ in range(MAX_NODES):
        if not stack:
            return best
        allowed, kept = stack.pop()
        found = _relaxed(covariance, pull, constraints, allowed)
        if found is None:
            continue
        bound = float(found @ covariance @ found) / 2 - float(pull @ found)
        if bound >= least - 1e-12 * abs(least):
            continue
        used = np.abs(found) > 1e-9
        if used.sum() <= count:
            best, least = found, bound
            continue
        if kept.sum() >= count:
            stack.append((kept, kept))
            continue
        free = np.flatnonzero(used & ~kept)
        place = free[np.argmax(np.abs(found[free]))]
        without, along = allowed.copy(), kept.copy()
        without[place], along[place] = False, True
        stack += [(without, kept), (allowed, along)]
    return None


def _relaxed(
    covariance: np.ndarray, rewards: np.ndarray, constraints: Constraints, allowed: np.ndarray
) -> np.ndarray | None:
    lower, upper = np.where(allowed, constraints.lower, 0.0), np.where(allowed, constraints.upper, 0.0)
    if lower.sum() > constraints.total + 1e-12 or upper.sum() < constraints.total - 1e-12:
        return None
    return BoxMinimumVariance(lower, upper, constraints.total).solve(covariance, rewards).copy()


def choose(
    method: str,
    constraints: Constraints,
    covariance: np.ndarray,
    rewards: np.ndarray,
    settings: PortfolioSettings,
    *,
    seed: int,
) -> DiscreteChoice:
    """Which positions to hold in equal parts, as many as the mandate allows, else half of them.

    Parameters
    ----------
    covariance, rewards : ndarray of shape (n, n), (n,)
        Annual, of the unknowns.

    Raises
    ------
    InvalidRequest
        Fewer than two positions, or more than the method can take.
    """
    places = np.argsort(-np.abs(constraints.current), kind="stable")
    most = settings.circuit_positions if method == "vqe_sim" else annealing.MAX_EXACT
    places = np.sort(places[:most])
    n = len(places)
    if n < 2:
        raise InvalidRequest("one position leaves nothing to choose", "Hold at least two")
    count = min(constraints.max_positions or max(1, n // 2), n)
    problem = annealing.cardinality_qubo(
        covariance[np.ix_(places, places)], rewards[places], count, settings.risk_aversion
    )
    _, optimum, spread = annealing.exact(problem)
    success = None
    if method == "vqe_sim":
        circuit = vqe.solve(problem, layers=settings.layers, seed=seed)
        choice, energy, runs, evaluations = circuit.choice, circuit.energy, vqe.RESTARTS, circuit.circuits
        note = f"state vector of {n} qubits, chance of measuring the choice {circuit.probability:.2f}"
    else:
        search = (
            annealing.simulated_annealing(problem, runs=settings.runs, sweeps=settings.sweeps, seed=seed)
            if method == "annealing"
            else annealing.simulated_quantum_annealing(
                problem, runs=settings.runs, sweeps=settings.sweeps, slices=settings.slices, seed=seed
            )
        )
        choice, energy, runs, evaluations = search.choice, search.energy, settings.runs, search.evaluations
        success = search.success(optimum, spread)
        note = f"{settings.sweeps} sweeps a run"
    return DiscreteChoice(
        method_label=method,
        symbols=tuple(constraints.symbols[place] for place, held in zip(places, choice, strict=True) if held),
        objective=energy,
        exact=optimum,
        gap=(energy - optimum) / max(abs(optimum), 1e-12),
        success=success,
        runs=runs,
        evaluations=evaluations,
        note=f"{count} of {n} positions in equal parts; all {2**n} choices were gone through for the exact one; {note}",
    )
