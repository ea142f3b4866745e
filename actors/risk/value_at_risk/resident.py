"""State that stays in place between calls: what a book needs to be asked for its tail again and again.

Each class owns the buffers of its kernels, so one object serves one thread.
"""

from __future__ import annotations

import math

import numpy as np

from actors.risk.kernels import NO_GUESS
from actors.risk.measures import NORMAL
from actors.risk.value_at_risk import kernels
from actors.risk.value_at_risk.limits import WATCHED_POSITIONS
from cluster.errors import InvalidMarketData, InvalidRequest

MARGIN = 0.1  # of the distance from VaR to CVaR, by which the next guess lies below the last VaR
NOT_FINITE = ("a return or a weight is not finite", "Validate the market data: `swarm data check`")


class HistoricalTail:
    """Historical VaR and CVaR of changing weights on one window of returns.

    Parameters
    ----------
    positions : ndarray of shape (n_days, n_positions)
        Returns of the positions; copied with positions in rows, unless they are laid out so (Fortran order).
    """

    def __init__(self, positions: np.ndarray, confidence: float) -> None:
        if positions.ndim != 2 or positions.size == 0:
            raise InvalidMarketData(f"returns of shape {positions.shape} hold nothing", "Give days by positions")
        self.confidence = _confidence(confidence)
        self.by_position = np.require(positions.T, np.float64, ["C_CONTIGUOUS", "WRITEABLE"])
        days, n = positions.shape
        self._work = np.empty((2, days))
        self.losses = self._work[0]
        """Of the weights asked last, shape (n_days,); overwritten by the next call."""
        self._rows = np.empty(days, np.int64)
        self._losses = np.empty(days)
        self._found = np.empty(2 + 2 * n)
        self._guess = NO_GUESS

    def measure(self, weights: np.ndarray) -> tuple[float, float]:
        """(VaR, CVaR) of weights of shape (n_positions,), float64 and contiguous.

        Raises
        ------
        InvalidMarketData
            A return or a weight is not finite.
        """
        var, cvar = kernels.historical_tail(self.by_position, weights, self.confidence, self._work, self._guess)
        if math.isnan(var):
            raise InvalidMarketData(*NOT_FINITE)
        self._guess = var - MARGIN * (cvar - var)
        return var, cvar

    def contributions(self, weights: np.ndarray) -> np.ndarray:
        """VaR, CVaR, then their components by position; shape (2 + 2 n,), overwritten by the next call."""
        found = self._found
        var = kernels.historical_contributions(
            self.by_position, weights, self.confidence, self._work, self._rows, self._guess, found
        )
        if math.isnan(var):
            raise InvalidMarketData(*NOT_FINITE)
        self._guess = var - MARGIN * (float(found[1]) - var)
        return found

    def without_each(self, weights: np.ndarray) -> np.ndarray:
        """(VaR, CVaR) without each position, shape (n_positions, 2), for the weights asked last."""
        found = np.empty((len(weights), 2))
        kernels.tails_without_each(
            self.by_position, weights, self.confidence, self._work, self._losses, self._guess, found
        )
        return found


class ParametricTail:
    """Gaussian VaR and CVaR of changing weights under one covariance and mean of a day."""

    def __init__(self, covariance: np.ndarray, means: np.ndarray, confidence: float) -> None:
        n = len(means)
        if covariance.shape != (n, n) or not (np.isfinite(covariance).all() and np.isfinite(means).all()):
            raise InvalidMarketData("covariance and means do not fit, or are not finite", "Correct the market data")
        self.z = NORMAL.inv_cdf(_confidence(confidence))
        self.beyond = NORMAL.pdf(self.z) / (1 - confidence)
        self.moments = np.ascontiguousarray(np.vstack([covariance, means]), dtype=float)
        self._found = np.empty(2 + 2 * n)

    def contributions(self, weights: np.ndarray) -> np.ndarray:
        """VaR, CVaR, then their components by position; shape (2 + 2 n,), overwritten by the next call.

        Raises
        ------
        InvalidMarketData
            A weight is not finite.
        """
        if math.isnan(kernels.parametric_tail(self.moments, weights, self.z, self.beyond, self._found)):
            raise InvalidMarketData(*NOT_FINITE)
        return self._found


class Monitor:
    """Limits of one book, watched at every price: exposures, drawdown and Gaussian VaR brought up to date in place.

    Sums are updated by differences, so rounding gathers over millions of ticks: :meth:`refresh` makes them anew.

    Parameters
    ----------
    covariance : ndarray of shape (n, n)
        Of daily returns.
    units, prices : ndarray of shape (n,)
        Units with multiplier, and the prices they start from.
    cash : float
        Money beside the exposures.
    limits : dict of str to float
        ``var``, ``drawdown``, ``leverage`` and ``concentration``; one that is left out is not watched. Concentration
        is watched from ``WATCHED_POSITIONS`` positions on, as in :func:`.limits.check_limits` (requirements risk 10.2).
    """

    NAMES = ("var", "drawdown", "leverage", "concentration")

    def __init__(
        self,
        covariance: np.ndarray,
        units: np.ndarray,
        prices: np.ndarray,
        *,
        cash: float = 0.0,
        peak_value: float | None = None,
        limits: dict[str, float],
        confidence: float = 0.95,
    ) -> None:
        n = len(units)
        known = (covariance, units, prices)
        if covariance.shape != (n, n) or prices.shape != (n,) or not all(np.isfinite(part).all() for part in known):
            raise InvalidMarketData("covariance, units and prices do not fit, or are not finite", "Correct them")
        self.covariance = np.array(covariance, dtype=float, order="C")
        self.positions = np.zeros((4, n))
        self.positions[0], self.positions[1] = units, prices
        self.book = np.zeros(8)
        self.book[0] = float(units @ prices) + cash
        self.book[1] = max(self.book[0], peak_value if peak_value is not None else self.book[0])
        watched = [limits.get(name, math.inf) for name in self.NAMES]
        if np.count_nonzero(units) < WATCHED_POSITIONS:
            watched[self.NAMES.index("concentration")] = math.inf
        self.limits = np.array([NORMAL.inv_cdf(_confidence(confidence)) ** 2, *watched])
        self._which, self._answer, self._price = np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1)
        self.refresh()

    def tick(self, position: int, price: float) -> int:
        """Limits beyond after a new price of one position, a bit each in the order of ``NAMES``.

        Raises
        ------
        InvalidMarketData
            The price is not finite, or there is no such position; nothing has changed.
        """
        if not 0 <= position < self.positions.shape[1]:
            raise InvalidMarketData(f"there is no position {position}", f"Give 0 to {self.positions.shape[1] - 1}")
        self._which[0], self._price[0] = position, price
        kernels.watch(self.covariance, self.positions, self.book, self.limits, self._which, self._price, self._answer)
        answer = int(self._answer[0])
        if answer < 0:
            raise InvalidMarketData(f"the price {price!r} is not finite", "Leave the tick out")
        return answer

    def watch(self, which: np.ndarray, prices: np.ndarray) -> np.ndarray:
        """Answers of :meth:`tick` for a stream of prices, -1 for one that is not finite; int64 of shape (n_ticks,).

        Raises
        ------
        InvalidMarketData
            A position does not exist, or the arrays differ in length; nothing has changed.
        """
        places = np.require(which, np.int64, ["C_CONTIGUOUS", "WRITEABLE"])
        if places.shape != prices.shape or places.ndim != 1:
            raise InvalidMarketData("positions and prices differ in length", "Give one price for each")
        if places.size and not (places.min() >= 0 and places.max() < self.positions.shape[1]):
            raise InvalidMarketData("a tick is of no position", f"Give 0 to {self.positions.shape[1] - 1}")
        found = np.empty(places.size, np.int64)
        stream = np.require(prices, np.float64, ["C_CONTIGUOUS", "WRITEABLE"])
        kernels.watch(self.covariance, self.positions, self.book, self.limits, places, stream, found)
        return found

    def refresh(self) -> None:
        """Exposures, their sums and their variance from units and prices, without the rounding of many ticks."""
        units, prices = self.positions[0], self.positions[1]
        exposures = units * prices
        self.positions[2] = exposures
        self.positions[3] = self.covariance @ exposures
        sizes = np.abs(exposures)
        self.book[2], self.book[3] = sizes.sum(), exposures @ self.positions[3]
        self.book[5] = int(sizes.argmax())
        self.book[4] = sizes.max()

    def beyond(self, answer: int) -> tuple[str, ...]:
        """Names of the limits in an answer of :meth:`tick`."""
        return tuple(name for bit, name in enumerate(self.NAMES) if answer >> bit & 1)


def _confidence(confidence: float) -> float:
    if not 0.5 < confidence < 1:
        raise InvalidRequest(f"confidence {confidence!r} is out of range", "Give a number between 0.5 and 1")
    return confidence
