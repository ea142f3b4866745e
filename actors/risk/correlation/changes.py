"""Regime change on-line: cumulative sums and Bayesian run lengths on how symbols moved together, a day at a time.

Two statistics a day, of returns z standardised by the deviations known the evening before:

- ``mean_correlation``: (sum z)^2 / (n z'z), the share of the day's movement in which all symbols move alike. For an
  elliptical market of equal correlations rho, its odds are (1 + (n - 1) rho) / (1 - rho) times an F variable: a change
  of rho shifts its logit.
- ``largest_eigenvalue_share``: (v'z)^2 / z'z, the share along the leading eigenvector v of the days watched first.

Both are shares of one day's movement, so a day's common volatility, however wild, cancels. Each becomes the normal
score of its rank among the days since the last change. Without a change, and if days are exchangeable, such scores are
independent and of one known law whatever the market: one table of thresholds, made by simulation, serves all of them.
Days of a real market are not quite exchangeable (correlation persists), so real alarms come somewhat more often.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from actors.risk.correlation import change_kernels as kernels
from cluster.errors import InvalidMarketData

Method = Literal["cusum", "bayesian_change_point"]
Statistic = Literal["mean_correlation", "largest_eigenvalue_share"]
METHODS: tuple[Method, ...] = ("cusum", "bayesian_change_point")
STATISTICS: tuple[Statistic, ...] = ("mean_correlation", "largest_eigenvalue_share")

WATCHED_DAYS = 125  # ranked before the first alarm may come: half a year
DECAY = 0.94  # of the deviations that standardise a day
ALLOWANCE = 0.25  # half the shift, in scores, that the sums are quickest to see
HAZARD = 1 / 1000  # prior probability that a run ends on a day
PRECISION = 4.0  # of the prior of a run's mean: shifts of half a score are usual
RECENT_DAYS = 63  # a run begun within these days is a change
LONGEST_RUN = 504  # days; longer runs are one

FALSE_ALARM_DAYS = (250, 500, 1000, 2000)
"""Mean days to a false alarm for which thresholds are kept."""
THRESHOLDS: dict[Method, tuple[float, ...]] = {
    "cusum": (7.227, 8.517, 9.874, 11.260),
    "bayesian_change_point": (0.134, 0.197, 0.277, 0.394),
}
"""By ``python -m actors.risk.correlation.changes``, which prints this table and the next (seed 0)."""
SHIFT = 0.5  # change of the mean score for which delays are kept
DELAYS: dict[Method, tuple[float, ...]] = {
    "cusum": (17.0, 24.0, 29.0, 33.0),
    "bayesian_change_point": (20.0, 26.0, 30.0, 38.0),
}
"""Median days from a change by ``SHIFT`` after 500 quiet days to its alarm, at the same false alarm times."""


@dataclass(frozen=True)
class Alarm:
    """A change that was called."""

    change: int
    """First day of the new regime, estimated; an index into the days given."""
    alarm: int
    """Day on which it was called, with what was known by then."""
    direction: int
    """1 for a rise, -1 for a fall."""


def detect(returns: np.ndarray, method: Method, statistic: Statistic, threshold: float) -> tuple[Alarm, ...]:
    """Every change called from the first day to the last. After an alarm the watch begins anew at the change.

    Parameters
    ----------
    returns : ndarray of shape (n_days, n)
        At least two symbols; days on which none of them moved are passed over.
    threshold : float
        One of :data:`THRESHOLDS`, or by :func:`threshold_for`.

    Raises
    ------
    InvalidMarketData
        Fewer than two symbols, or fewer days than ``WATCHED_DAYS`` and one more.
    """
    shocks, days = standardise(returns)
    alarms: list[Alarm] = []
    start = 0
    while len(shocks) - start > WATCHED_DAYS:
        found, change, direction = _first_from(shocks[start:], method, statistic, threshold)
        if found < 0:
            break
        alarms.append(Alarm(int(days[start + change]), int(days[start + found]), direction))
        start += max(change, 1)
    return tuple(alarms)


def standardise(returns: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(Returns over the deviations known the evening before, the days they stand for); still days are left out."""
    if returns.ndim != 2 or returns.shape[1] < 2 or len(returns) <= WATCHED_DAYS or not np.isfinite(returns).all():
        raise InvalidMarketData(
            f"a change of correlation needs two symbols and more than {WATCHED_DAYS} finite days, not {returns.shape}",
            "Give more history",
        )
    own = np.array(returns, dtype=float, order="C")  # a copy: kernels are compiled for arrays that may be written
    shocks = np.empty_like(own)
    kernels.standardised(own, DECAY, own[:WATCHED_DAYS].var(axis=0), shocks)
    moving = np.flatnonzero((shocks != 0).any(axis=1))
    return shocks[moving], moving


def shares(shocks: np.ndarray, statistic: Statistic) -> np.ndarray:
    """One of the two statistics, shape (n_days,), each in 0 to 1."""
    n = shocks.shape[1]
    direction = np.full(n, n**-0.5)
    if statistic == "largest_eigenvalue_share":
        watched = shocks[:WATCHED_DAYS]
        directions = watched / np.linalg.norm(watched, axis=1, keepdims=True)  # days weigh alike, wild or calm
        direction = np.linalg.eigh(directions.T @ directions)[1][:, -1]
    return np.asarray((shocks @ direction) ** 2 / (shocks**2).sum(axis=1))


def scores_of(values: np.ndarray) -> np.ndarray:
    """Normal scores of sequential ranks, shape (n_days,)."""
    ranks = np.empty(len(values))
    kernels.sequential_ranks(np.array(values), np.empty(len(values)), ranks)
    return scores_of_ranks(ranks)


def scores_of_ranks(ranks: np.ndarray) -> np.ndarray:
    """Standard normal quantiles of ranks within 0 and 1."""
    from scipy.special import ndtri

    return np.asarray(ndtri(ranks))


def threshold_for(method: Method, false_alarm_days: int) -> float:
    """Threshold with this mean time to a false alarm, between the table's entries by the logarithm of the time."""
    return float(np.interp(np.log(false_alarm_days), np.log(FALSE_ALARM_DAYS), THRESHOLDS[method]))


def delay_for(method: Method, false_alarm_days: int) -> float:
    """Median days from a change of the mean score by ``SHIFT`` to its alarm, between the table's entries."""
    return float(np.interp(np.log(false_alarm_days), np.log(FALSE_ALARM_DAYS), DELAYS[method]))


def _first_from(shocks: np.ndarray, method: Method, statistic: Statistic, threshold: float) -> tuple[int, int, int]:
    """The first alarm; days are looked at in ever longer stretches, since most alarms come early in what is left."""
    values, stretch = shares(shocks, statistic), 4 * WATCHED_DAYS
    while True:
        found = _first(scores_of(values[:stretch]), method, threshold)
        if found[0] >= 0 or stretch >= len(values):
            return found
        stretch *= 2


def _first(scores: np.ndarray, method: Method, threshold: float) -> tuple[int, int, int]:
    path = np.empty(len(scores))
    if method == "cusum":
        found: tuple[int, int, int] = kernels.cusum(scores, ALLOWANCE, threshold, WATCHED_DAYS, path)
        return found
    buffers = np.empty((2, LONGEST_RUN + 1))
    found = kernels.run_lengths(
        scores, HAZARD, PRECISION, RECENT_DAYS, WATCHED_DAYS, threshold, buffers[0], buffers[1], path
    )
    return found


def quiet_scores(rng: np.random.Generator, days: int) -> np.ndarray:
    """Scores of exchangeable days: sequential ranks are independent and uniform (Renyi 1962)."""
    counts = np.arange(1, days + 1)
    return scores_of_ranks((np.ceil(rng.random(days) * counts).clip(1) - 0.5) / counts)


def calibrate(method: Method, seed: int, runs: int, days: int) -> np.ndarray:
    """Thresholds for :data:`FALSE_ALARM_DAYS`, by simulation of quiet markets.

    The mean time to an alarm is days watched over alarms called, runs that end without one included: run lengths are
    close to geometric.
    """
    grid = np.linspace(3, 14, 221) if method == "cusum" else np.linspace(0.07, 0.97, 181)
    watched, alarms = np.zeros(len(grid)), np.zeros(len(grid))
    path, buffers = np.empty(days), np.empty((2, LONGEST_RUN + 1))
    for stream in np.random.SeedSequence(seed).spawn(runs):
        scores = quiet_scores(np.random.default_rng(stream), days)
        passages = np.zeros(len(grid))
        if method == "cusum":
            kernels.first_passages(scores[WATCHED_DAYS:], 0.0, ALLOWANCE, grid, passages)
        else:
            kernels.run_lengths(scores, HAZARD, PRECISION, RECENT_DAYS, WATCHED_DAYS, 2.0, buffers[0], buffers[1], path)
            peaks = np.maximum.accumulate(path[WATCHED_DAYS:])
            first = np.searchsorted(peaks, grid, side="right")
            passages = np.where(first < len(peaks), first + 1.0, 0.0)
        watched += np.where(passages > 0, passages, days - WATCHED_DAYS)
        alarms += passages > 0
    lengths = watched / np.maximum(alarms, 1)
    return np.asarray(np.interp(np.log(FALSE_ALARM_DAYS), np.log(lengths), grid))


def median_delay(method: Method, shift: float, threshold: float, seed: int, runs: int, quiet_days: int = 500) -> float:
    """Median days from a change of every day's normal variable by ``shift`` to an alarm, ranks and all."""
    delays = []
    for stream in np.random.SeedSequence(seed).spawn(runs):
        values = np.random.default_rng(stream).normal(size=quiet_days + 1000)
        values[quiet_days:] += shift
        found, _, _ = _first(scores_of(values), method, threshold)
        if found < 0 or found >= quiet_days:  # a false alarm says nothing of the delay
            delays.append(np.inf if found < 0 else found - quiet_days + 1.0)
    return float(np.median(delays))


def main() -> None:
    """Print both tables."""
    import sys

    sizes = {"cusum": (4000, 12_000), "bayesian_change_point": (1000, 6_000)}
    for method in METHODS:
        found = calibrate(method, 0, *sizes[method])
        delays = [median_delay(method, SHIFT, float(threshold), 1, 1000) for threshold in found]
        sys.stdout.write(f"{method}: thresholds {np.round(found, 3).tolist()}, delays {delays}\n")


if __name__ == "__main__":
    main()
