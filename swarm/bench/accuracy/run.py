"""Runs the panel: every law, dimension, size and method, each kept as it is done, so that a run can be continued."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from actors.risk.measures import tail
from actors.risk.sampling import Model, StudentT, uniforms
from actors.risk.value_at_risk.variance_reduction import STRATA, strata_weights, weighted_tail
from swarm.bench.accuracy import panel
from swarm.bench.accuracy.rare import rare_draws
from swarm.bench.accuracy.truth import Truth, truth

SEED = 20261121


Progress = Callable[[int, int, str], None]
"""Told what is done, of how much, and what comes next."""


@dataclass(frozen=True)
class Task:
    """One method at one size on one law and dimension; every book and confidence is estimated from its draws."""

    law: str
    dimension: int
    size: int
    method: str

    @property
    def name(self) -> str:
        """Name of the file that keeps the outcome."""
        return f"{self.law}-{self.dimension}-{self.size}-{self.method}"


@dataclass(frozen=True)
class Outcome:
    """Estimates of shape (replications, books, confidences, measures), and the seconds that they took."""

    estimates: np.ndarray
    seconds: np.ndarray
    """Processor seconds of one replication by book, the median, shape (books, confidences)."""


def tasks() -> Iterator[Task]:
    """Every task, so ordered that an unfinished run covers the panel evenly: small sizes and dimensions first."""
    for size in panel.SIZES:
        for dimension in panel.DIMENSIONS:
            for law in panel.LAWS:
                for method in panel.METHODS:
                    yield Task(law, dimension, size, method)


def replications(task: Task, share: float) -> int:
    """Independent randomisations of a task."""
    count = panel.REPLICATIONS[task.size]
    if task.method == "importance":
        count //= panel.IMPORTANCE_SHARE.get(task.size, 1)
    return max(2, round(count * share))


def run(
    folder: Path,
    *,
    share: float = 1.0,
    minutes: float | None = None,
    progress: Progress = lambda _done, _total, _name: None,
) -> bool:
    """Do what is not done yet, in ``folder``; returns whether everything is.

    Parameters
    ----------
    share : float
        Share of the panel's replications; 1 for figures to publish.
    minutes : float, optional
        Stop after the task during which this time has passed; the first one is always done.
    """
    folder.mkdir(parents=True, exist_ok=True)
    give_up = time.monotonic() + (minutes * 60 if minutes is not None else float("inf"))
    worked = False
    whole = list(tasks())
    questions = [(law, dimension) for law in panel.LAWS for dimension in panel.DIMENSIONS]
    total = len(whole) + len(questions)
    for place, task in enumerate(whole):
        path = folder / f"{task.name}.npz"
        if path.exists():
            continue
        if worked and time.monotonic() > give_up:
            return False
        worked = True
        progress(place, total, task.name)
        outcome = measure(task, replications(task, share))
        part = path.with_suffix(".part.npz")
        np.savez_compressed(part, estimates=outcome.estimates, seconds=outcome.seconds)
        part.rename(path)
    for place, (law, dimension) in enumerate(questions, len(whole)):
        path = folder / f"truth-{law}-{dimension}.npz"
        if path.exists():
            continue
        if worked and time.monotonic() > give_up:
            return False
        worked = True
        progress(place, total, path.stem)
        keep_truth(path, truth(law, dimension))
    return True


def keep_truth(path: Path, found: Truth) -> None:
    """Write the truth of one law and dimension."""
    part = path.with_suffix(".part.npz")
    np.savez_compressed(part, values=found.values, errors=found.errors, sources=np.array(found.sources))
    part.rename(path)


def measure(task: Task, count: int) -> Outcome:
    """Run one task ``count`` times, every time on a randomisation of its own."""
    seeds = np.random.SeedSequence(
        [SEED, panel.LAWS.index(task.law), task.dimension, task.size, panel.METHODS.index(task.method)]
    ).spawn(count)
    replicate = _importance(task) if task.method == "importance" else _from_common_draws(task)
    shape = (len(panel.BOOKS), len(panel.CONFIDENCES))
    estimates, seconds = np.empty((count, *shape, len(panel.MEASURES))), np.empty((count, *shape))
    for number, seed in enumerate(seeds):
        replicate(seed, estimates[number], seconds[number])
    return Outcome(estimates, np.median(seconds, axis=0))


Replicate = Callable[[np.random.SeedSequence, np.ndarray, np.ndarray], None]


def _from_common_draws(task: Task) -> Replicate:
    """One set of moves serves every book and confidence, as it would in use."""
    direction = panel.weights(task.dimension)
    directed = task.method in ("stratified", "sobol_directed")
    model = panel.law(
        task.law,
        task.dimension,
        factor="cholesky" if task.method == "sobol_cholesky" else "pca",
        direction=direction if directed else None,
    )
    kind = task.method.split("_")[0]
    points = kind if kind in ("antithetic", "stratified", "sobol") else "plain"
    losses = [panel.loss_of(book, task.dimension) for book in panel.BOOKS]
    controls = [_Control(task.law, book, task.dimension, model) for book in panel.BOOKS]

    def replicate(seed: np.random.SeedSequence, estimates: np.ndarray, seconds: np.ndarray) -> None:
        started = time.thread_time()
        moves = model.transform(uniforms(points, task.size, model.inputs, seed))  # type: ignore[arg-type]
        drawn = time.thread_time() - started
        for place, loss in enumerate(losses):
            started = time.thread_time()
            sample = loss(moves)
            shares = controls[place].weights(moves) if task.method == "control_variate" else None
            for column, confidence in enumerate(panel.CONFIDENCES):
                estimates[place, column] = (
                    tail(sample, confidence) if shares is None else weighted_tail(sample, shares, confidence)
                )
            seconds[place] = drawn + time.thread_time() - started

    return replicate


class _Control:
    """The book's linear part, whose law is known, and the strata that it makes."""

    def __init__(self, law: str, book: str, dimension: int, model: Model) -> None:
        from scipy import stats

        self._delta = panel.sensitivities(book, dimension).delta
        self._logs = law == "jump_diffusion"
        spread = panel.covariance(dimension)
        deviation = float(np.sqrt(self._delta @ spread @ self._delta))
        probabilities = np.array(STRATA)
        if law == "gaussian":
            self._edges = stats.norm.ppf(probabilities) * deviation
        elif isinstance(model, StudentT):
            v = model.degrees
            self._edges = stats.t.ppf(probabilities, v) * deviation * np.sqrt((v - 2) / v)
        else:
            self._edges = _jump_quantiles(probabilities, float(self._delta.sum()), deviation)
        self._probabilities = probabilities

    def weights(self, moves: np.ndarray) -> np.ndarray:
        """Weight of every draw, shape (n,)."""
        known = np.log1p(moves) if self._logs else moves
        return strata_weights(-(known @ self._delta), self._edges, self._probabilities)


def _jump_quantiles(probabilities: np.ndarray, delta: float, deviation: float) -> np.ndarray:
    """Quantiles of the linear loss of log moves: normal given the number of jumps."""
    from scipy.optimize import brentq
    from scipy.stats import norm, poisson

    jumps = np.arange(20)
    chance = poisson.pmf(jumps, panel.JUMPS_A_DAY)
    means = -delta * panel.JUMP_MEAN * jumps
    deviations = np.sqrt(deviation**2 + (delta * panel.JUMP_DEVIATION) ** 2 * jumps)
    reach = 12 * float(deviations[3]) + abs(float(means[3]))

    def below(x: float) -> float:
        return float(chance @ norm.cdf((x - means) / deviations))

    return np.array([brentq(lambda x, p=p: below(x) - p, -reach, reach, xtol=1e-14) for p in probabilities])


def _importance(task: Task) -> Replicate:
    """Draws of its own for every book and confidence, placed by the book's delta and gamma."""
    losses = [panel.loss_of(book, task.dimension) for book in panel.BOOKS]
    twists = [
        [rare_draws(task.law, book, task.dimension, confidence) for confidence in panel.CONFIDENCES]
        for book in panel.BOOKS
    ]

    def replicate(seed: np.random.SeedSequence, estimates: np.ndarray, seconds: np.ndarray) -> None:
        streams = iter(seed.spawn(len(panel.BOOKS) * len(panel.CONFIDENCES)))
        for place, loss in enumerate(losses):
            for column, confidence in enumerate(panel.CONFIDENCES):
                started = time.thread_time()
                found = twists[place][column]
                moves, ratios = found(uniforms("plain", task.size, task.dimension + 2, next(streams)))
                estimates[place, column] = weighted_tail(loss(moves), ratios, confidence)
                seconds[place, column] = time.thread_time() - started

    return replicate
