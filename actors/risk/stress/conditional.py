"""Conditional stress: some symbols make stated moves, the others follow by the dependence that the window shows.

Margins are empirical, dependence is a Gaussian or a Student-t copula on normal or Student-t scores of the ranks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.covariance import correlation_of, ledoit_wolf
from actors.risk.exposures import position_returns
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.messages.calculation import Shock
from hive.messages.estimate import INTERVAL_LEVEL, Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import Scenario

DEGREES = tuple(range(3, 31))
"""Degrees of freedom that the Student-t copula is tried with."""


@dataclass(frozen=True)
class Copula:
    """Scores' correlation, shape (n, n), and degrees of freedom; infinite for the Gaussian copula."""

    correlation: np.ndarray
    degrees: float


def given(
    book: Book, names: tuple[str, ...], moves: np.ndarray, shock: Shock, *, samples: int, seed: int
) -> list[Scenario]:
    """The expected loss, and the central 95 % of losses, given the moves of a shock; one scenario by copula.

    Parameters
    ----------
    names : tuple of str
        What moves the book, in the order of the columns of ``moves``, shape (n_observations, n_moved).

    Raises
    ------
    InvalidRequest
        The shock names something that does not move the book.
    InvalidMarketData
        Too few observations, or a series that does not move.
    """
    strangers = sorted(set(shock.moves) - set(names))
    if strangers:
        raise InvalidRequest(
            f"the condition {shock.name!r} moves {strangers[0]}, which the book does not hold",
            "Name symbols of the portfolio",
        )
    if len(moves) < 60 or not (np.ptp(moves, axis=0) > 0).all():
        raise InvalidMarketData(
            "a dependence needs 60 days on which every symbol moves", "Give more history, or leave the still one out"
        )
    ordered = np.sort(moves, axis=0)
    ranks = (moves.argsort(axis=0).argsort(axis=0) + 0.5) / len(moves)
    fixed = np.array([names.index(symbol) for symbol in shock.moves])
    stated = np.array(list(shock.moves.values()))
    levels, outside = _levels(ordered[:, fixed], stated)
    note = ", ".join(f"{symbol} {move:+.1%}" for symbol, move in shock.moves.items())
    if outside:
        note += "; beyond the sample, so placed at its most extreme day"
    return [
        _scenario(book, names, copula, ordered, fixed, stated, levels, f"{shock.name} ({label})", note, samples, seed)
        for copula, label in ((gaussian_copula(ranks), "Gaussian copula"), (student_copula(ranks), "t copula"))
    ]


def gaussian_copula(ranks: np.ndarray) -> Copula:
    """Correlation of the normal scores of ranks in (0, 1), shape (n_observations, n), shrunk so as to be definite."""
    from scipy.special import ndtri

    covariance, _ = ledoit_wolf(ndtri(ranks))
    return Copula(correlation_of(covariance), math.inf)


def student_copula(ranks: np.ndarray) -> Copula:
    """Correlation as of the Gaussian copula; degrees of freedom by profile likelihood over whole numbers."""
    from scipy.special import gammaln, stdtrit

    correlation = gaussian_copula(ranks).correlation
    values, vectors = np.linalg.eigh(correlation)
    n, d = ranks.shape
    best = (-math.inf, float(DEGREES[-1]))
    for v in DEGREES:
        scores = stdtrit(v, ranks)
        distance = ((scores @ vectors) ** 2 / values).sum(axis=1)
        joint = gammaln((v + d) / 2) - gammaln(v / 2) - d / 2 * math.log(v * math.pi) - 0.5 * np.log(values).sum()
        single = gammaln((v + 1) / 2) - gammaln(v / 2) - 0.5 * math.log(v * math.pi)
        whole = n * joint - (v + d) / 2 * np.log1p(distance / v).sum()
        margins = n * d * single - (v + 1) / 2 * np.log1p(scores**2 / v).sum()
        best = max(best, (float(whole - margins), float(v)))
    return Copula(correlation, best[1])


def conditional_scores(
    copula: Copula, fixed: np.ndarray, levels: np.ndarray, samples: int, rng: np.random.Generator
) -> np.ndarray:
    """Levels in (0, 1) of the other series given those of the ``fixed`` ones, shape (samples, n - n_fixed).

    Partitioned normal, or Student-t with degrees + n_fixed degrees and a scale that grows with how far out the
    condition lies (Ding 2016).
    """
    from scipy.special import ndtr, ndtri, stdtr, stdtrit

    n = len(copula.correlation)
    free = np.setdiff1d(np.arange(n), fixed)
    inner = copula.correlation[np.ix_(fixed, fixed)]
    across = copula.correlation[np.ix_(free, fixed)]
    heavy = copula.degrees < math.inf
    scores = stdtrit(copula.degrees, levels) if heavy else ndtri(levels)
    solved = np.linalg.solve(inner, scores)
    spread = copula.correlation[np.ix_(free, free)] - across @ np.linalg.solve(inner, across.T)
    root = np.linalg.cholesky(spread + 1e-12 * np.eye(len(free)))
    draws = rng.normal(size=(samples, len(free))) @ root.T
    if not heavy:
        return np.asarray(ndtr(across @ solved + draws))
    degrees = copula.degrees + len(fixed)
    scale = math.sqrt((copula.degrees + float(scores @ solved)) / degrees)
    mixing = np.sqrt(degrees / rng.chisquare(degrees, samples))
    return np.asarray(stdtr(copula.degrees, across @ solved + scale * mixing[:, None] * draws))


def _scenario(
    book: Book,
    names: tuple[str, ...],
    copula: Copula,
    ordered: np.ndarray,
    fixed: np.ndarray,
    stated: np.ndarray,
    levels: np.ndarray,
    name: str,
    note: str,
    samples: int,
    seed: int,
) -> Scenario:
    free = np.setdiff1d(np.arange(len(names)), fixed)
    drawn = np.empty((samples, len(names)))
    drawn[:, fixed] = stated
    if len(free):
        scores = conditional_scores(copula, fixed, levels, samples, np.random.default_rng(seed))
        places = np.clip((scores * len(ordered)).astype(int), 0, len(ordered) - 1)
        drawn[:, free] = ordered[places, free]
    parts = -position_returns(book, drawn) * book.weights
    losses = parts.sum(axis=1)
    miss = (1 - INTERVAL_LEVEL) / 2
    low, high = np.quantile(losses, [miss, 1 - miss])
    expected = float(parts.mean(axis=0).sum())
    degrees = f", {copula.degrees:.0f} degrees" if copula.degrees < math.inf else ""
    return Scenario(
        name=name,
        kind="conditional",
        loss=Estimate(
            measure="loss",
            value=expected,
            unit="fraction",
            method_label="conditional_t_copula" if copula.degrees < math.inf else "conditional_gaussian_copula",
            convention=f"mean loss given the stated moves, empirical margins{degrees}",
            samples=samples,
            lower=min(float(low), expected),
            upper=max(float(high), expected),
            interval_method="central 95 % of the conditional losses",
        ),
        contributions=dict(zip(book.symbols, parts.mean(axis=0).tolist(), strict=True)),
        note=note,
        moves=dict(zip(names, drawn.mean(axis=0).tolist(), strict=True)),
    )


def _levels(ordered: np.ndarray, stated: np.ndarray) -> tuple[np.ndarray, bool]:
    """Empirical levels of the stated moves, and whether one lies beyond the sample."""
    n = len(ordered)
    below = np.array([np.searchsorted(ordered[:, j], move) for j, move in enumerate(stated)])
    outside = bool(((stated < ordered[0]) | (stated > ordered[-1])).any())
    return np.clip((below + 0.5) / n, 0.5 / n, 1 - 0.5 / n), outside
