"""Reverse stress: the most probable one-day move that loses a target, and how alone it is."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import position_returns
from actors.risk.sampling import factor_of, fitted_degrees
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.portfolio import Book
from hive.messages.reports import ReverseStress

WORST_MOVE = -0.999  # a price cannot fall further, and an exchange rate cannot be worth nothing
TOLERANCE = 1e-6  # of the target, by which a solution may miss it
APART = 0.05  # share of the norm by which two solutions must differ to be two
NEGLIGIBLE = 1e-12  # eigenvalues below this share of the largest are directions in which nothing moves


def most_probable_move(
    book: Book,
    names: tuple[str, ...],
    moves: np.ndarray,
    dates: np.ndarray,
    target: float,
    *,
    starts: int,
    seed: int,
) -> ReverseStress:
    """Minimise the Mahalanobis norm of a move subject to loss >= target, under the shrunk covariance of the window.

    For a linear book the answer is the closed form -S w target / w'Sw, where no price would fall below zero; else the
    problem is solved from several starting points, and every solution that is a minimum of its own is reported.

    Parameters
    ----------
    names : tuple of str
        What moves the book, in the order of the columns of ``moves``.
    moves : ndarray of shape (n_observations, n_moved)

    Raises
    ------
    InvalidRequest
        No move that the search found loses as much; the message says how much it can lose.
    InvalidMarketData
        The book does not react to any move that happens.
    """
    covariance, _ = ledoit_wolf(moves)
    values = np.linalg.eigvalsh(covariance)
    root = factor_of(covariance)[:, : int((values > NEGLIGIBLE * max(values[-1], 0.0)).sum())]
    if root.shape[1] == 0:
        raise InvalidMarketData("nothing that the book holds has moved", "Check the market data")

    def loss(z: np.ndarray) -> float:
        return float(-(position_returns(book, (root @ z)[None, :]) @ book.weights)[0])

    found = _linear(book, root, target)
    tried = 1
    if not found:
        found, tried = _searched(loss, root, target, starts, seed)
    found.sort(key=lambda z: float(z @ z))
    best = found[0]
    distance = math.sqrt(float(best @ best))
    degrees = fitted_degrees(moves - moves.mean(axis=0))
    projection = np.linalg.lstsq(root, (moves - moves.mean(axis=0)).T, rcond=None)[0]
    nearest = int(np.argmin(((projection - best[:, None]) ** 2).sum(axis=0)))
    earned = position_returns(book, np.vstack([root @ best, moves[nearest]]))
    normal, student = _chances(distance, degrees)
    return ReverseStress(
        target=target,
        distance=distance,
        normal_probability=normal,
        student_probability=student,
        degrees=degrees if degrees < math.inf else None,
        moves=dict(zip(names, (root @ best).tolist(), strict=True)),
        contributions=dict(zip(book.symbols, (-earned[0] * book.weights).tolist(), strict=True)),
        closest_day=str(dates[nearest]),
        closest_day_loss=float(-(earned[1] @ book.weights)),
        others=tuple(dict(zip(names, (root @ z).tolist(), strict=True)) for z in found[1:]),
        starts=tried,
    )


def _linear(book: Book, root: np.ndarray, target: float) -> list[np.ndarray]:
    """The closed form, where the book is linear and no price falls below zero."""
    if not book.linear:
        return []
    slope = -root.T @ book.weights
    square = float(slope @ slope)
    if not square > 0:
        raise InvalidMarketData("the book has no risk, so no move loses the target", "Hold at least one position")
    z = slope * (target / square)
    return [z] if (root @ z).min() >= WORST_MOVE else []


def _searched(
    loss: Callable[[np.ndarray], float], root: np.ndarray, target: float, starts: int, seed: int
) -> tuple[list[np.ndarray], int]:
    """Distinct local minima of |z| with loss >= target and no price below zero."""
    from scipy.optimize import LinearConstraint, NonlinearConstraint, minimize

    n = root.shape[1]
    rng = np.random.default_rng(seed)
    steps = np.eye(n) * 1e-4
    slope = np.array([(loss(step) - loss(-step)) / 2e-4 for step in steps])
    length = float(np.linalg.norm(slope))
    origins = [slope * (target / length**2)] if length > 0 else []
    while len(origins) < starts:
        direction = np.asarray(rng.normal(size=n))
        origins.append(direction * (max(3.0, target / max(length, target)) / float(np.linalg.norm(direction))))
    bounds = LinearConstraint(root, lb=WORST_MOVE)
    reach = NonlinearConstraint(lambda z: loss(z) / target, 1.0, np.inf)
    found: list[np.ndarray] = []
    largest = 0.0
    for origin in origins:
        answer = minimize(
            lambda z: 0.5 * float(z @ z),
            origin,
            jac=lambda z: z,
            method="SLSQP",
            constraints=[reach, bounds],
            options={"maxiter": 300, "ftol": 1e-12},
        )
        inside = np.isfinite(answer.x).all() and (root @ answer.x).min() >= WORST_MOVE - 1e-9
        if inside:
            largest = max(largest, loss(answer.x))
        if not inside or loss(answer.x) < target * (1 - TOLERANCE):
            continue
        z = np.asarray(answer.x)
        if all(float(np.linalg.norm(z - other)) > APART * float(np.linalg.norm(z)) for other in found):
            found.append(z)
    if not found:
        raise InvalidRequest(
            f"no move was found that loses {target:.0%} of this book; the search reached {largest:.1%}",
            "Ask for a smaller target loss",
        )
    best = min(float(z @ z) for z in found)
    return [z for z in found if float(z @ z) <= 4.0 * best], len(origins)  # beyond twice the norm nobody looks


def _chances(distance: float, degrees: float) -> tuple[float, float]:
    """Chance of a loss so far out in the direction of the move, for normal and for Student-t moves."""
    from scipy.special import ndtr, stdtr

    normal = float(ndtr(-distance))
    if degrees == math.inf:
        return normal, normal
    return normal, float(stdtr(degrees, -distance * math.sqrt(degrees / (degrees - 2))))
