"""What the panel measured: errors against the truth, gains over plain Monte Carlo, and how sure they are."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.stats import norm

from swarm.bench.accuracy import panel
from swarm.bench.accuracy.run import Task, tasks
from swarm.bench.accuracy.truth import effective_dimension

BOOTSTRAPS = 1000
CLAIMS = (0.15, 0.30, 0.50)
"""Gains that are tested: 15 % and 30 % as claimed for, 50 % as set here."""
LEVEL = 0.05
REFERENCE_SHARE = 1 / 20  # of the measured error that the truth's own error may have


@dataclass(frozen=True)
class Cell:
    """One method on one question at one size, against plain Monte Carlo with as many loss evaluations."""

    law: str
    dimension: int
    book: str
    confidence: float
    measure: str
    size: int
    method: str
    replications: int
    truth: float
    truth_exact: bool
    truth_sharp: bool
    """Whether the truth's own error is below a twentieth of the error measured."""
    plain_rmse: float
    rmse: float
    bias: float
    deviation: float
    gain: float
    """1 - rmse / plain rmse at equal loss evaluations."""
    lower: float
    upper: float
    """95 % interval of the gain, by bootstrap over replications."""
    gain_at_equal_time: float
    """The same against the plain error that the method's processor time would have bought."""
    p_value: float
    """Of a gain of at most 15 %, one-sided: normal in the logarithm of the ratio, its deviation from the bootstrap."""
    effective_dimension: int


def cells(folder: Path) -> Iterator[Cell]:
    """Every cell that has been measured, with plain Monte Carlo and the truth to hold it against."""
    for law in panel.LAWS:
        for dimension in panel.DIMENSIONS:
            path = folder / f"truth-{law}-{dimension}.npz"
            if not path.exists():
                continue
            known = np.load(path)
            effective = [effective_dimension(law, book, dimension) for book in panel.BOOKS]
            for size in panel.SIZES:
                yield from _cells_of(folder, law, dimension, size, known, effective)


def missing(folder: Path) -> int:
    """Tasks of the panel that have not been run."""
    return sum(not (folder / f"{task.name}.npz").exists() for task in tasks())


def _cells_of(
    folder: Path, law: str, dimension: int, size: int, known: np.lib.npyio.NpzFile, effective: list[int]
) -> Iterator[Cell]:
    base = folder / f"{Task(law, dimension, size, 'plain').name}.npz"
    if not base.exists():
        return
    plain = np.load(base)
    values, errors, sources = known["values"], known["errors"], known["sources"]
    plain_errors = plain["estimates"] - values
    rng = np.random.default_rng([5, dimension, size])
    for method in panel.METHODS[1:]:
        path = folder / f"{Task(law, dimension, size, method).name}.npz"
        if not path.exists():
            continue
        taken = np.load(path)
        found = taken["estimates"] - values
        rmse, plain_rmse = _rmse(found), _rmse(plain_errors)
        gains = 1 - _resampled(found, rng) / np.maximum(_resampled(plain_errors, rng), 1e-300)
        low, high = np.quantile(gains, [LEVEL / 2, 1 - LEVEL / 2], axis=0)
        doubt = np.log1p(-gains).std(axis=0, ddof=1)  # of the logarithm of the ratio of errors, which is near normal
        p_values = norm.sf((np.log1p(-CLAIMS[0]) - np.log(rmse / plain_rmse)) / np.maximum(doubt, 1e-300))
        speed = np.sqrt(taken["seconds"] / plain["seconds"])[..., None]
        for b, book in enumerate(panel.BOOKS):
            for c, confidence in enumerate(panel.CONFIDENCES):
                for m, measure in enumerate(panel.MEASURES):
                    at = (b, c, m)
                    yield Cell(
                        law=law,
                        dimension=dimension,
                        book=book,
                        confidence=confidence,
                        measure=measure,
                        size=size,
                        method=method,
                        replications=len(found),
                        truth=float(values[at]),
                        truth_exact=not str(sources[b])[0].isdigit(),
                        truth_sharp=bool(errors[at] <= REFERENCE_SHARE * rmse[at]),
                        plain_rmse=float(plain_rmse[at]),
                        rmse=float(rmse[at]),
                        bias=float(found.mean(axis=0)[at]),
                        deviation=float(found.std(axis=0, ddof=1)[at]),
                        gain=float(1 - rmse[at] / plain_rmse[at]),
                        lower=float(low[at]),
                        upper=float(high[at]),
                        gain_at_equal_time=float(1 - (rmse * speed)[at] / plain_rmse[at]),
                        p_value=float(p_values[at]),
                        effective_dimension=effective[b],
                    )


def holm(p_values: np.ndarray) -> np.ndarray:
    """Whether each hypothesis is rejected at 5 % over all of them together (Holm 1979), shape of the input."""
    order = np.argsort(p_values)
    passed = p_values[order] <= LEVEL / np.arange(len(p_values), 0, -1)
    first_miss = len(passed) if passed.all() else int(np.argmin(passed))
    rejected = np.zeros(len(p_values), bool)
    rejected[order[:first_miss]] = True
    return rejected


def _rmse(errors: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt((errors**2).mean(axis=0)))


def _resampled(errors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Root mean squared errors of resampled replications, shape (BOOTSTRAPS, ...)."""
    count = len(errors)
    weights = rng.multinomial(count, np.full(count, 1 / count), size=BOOTSTRAPS) / count
    return np.asarray(np.sqrt(np.tensordot(weights, errors**2, axes=1)))
