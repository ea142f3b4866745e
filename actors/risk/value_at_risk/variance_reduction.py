"""Ways to a tail estimate of less variance: strata of a known control, and moves drawn where the losses are.

Losses are positive. A weighted sample gives VaR as the smallest loss that weighs at most 1 - confidence above it, and
CVaR as Rockafellar and Uryasev define it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.measures import RANK_TOLERANCE
from cluster.errors import InvalidMarketData

STRATA = (0.22, 0.47, 0.73, 0.88, 0.935, 0.965, 0.983, 0.9935, 0.9982)
"""Probabilities of the control at which its strata meet: none that is asked for, where the weight beyond would be
exactly its share and the estimate always the last loss below the edge."""
BISECTIONS = 50
CLOSE_TO_POLE = 0.999  # how near the twist may come to where its moment generating function ends


@dataclass(frozen=True)
class Quadratic:
    """Loss near the centre: constant + b'z + z'Lz in independent standard normals z, L diagonal.

    ``root`` takes z to the moves, x = mean + root z.
    """

    constant: float
    linear: np.ndarray
    curvature: np.ndarray
    root: np.ndarray


def quadratic(mean: np.ndarray, root: np.ndarray, delta: np.ndarray, gamma: np.ndarray) -> Quadratic:
    """The loss -(delta'x + x' diag(gamma) x / 2) of moves x = mean + root z, its curvature made diagonal.

    Parameters
    ----------
    mean, delta, gamma : ndarray of shape (n,)
        Gains, fractions of value, for a move of 1; and what a gain gains for one.
    root : ndarray of shape (n, n)
    """
    curvature, vectors = np.linalg.eigh(-0.5 * (root.T * gamma) @ root)
    turned = root @ vectors
    return Quadratic(
        constant=-float(delta @ mean + 0.5 * mean @ (gamma * mean)),
        linear=-turned.T @ (delta + gamma * mean),
        curvature=curvature,
        root=turned,
    )


@dataclass(frozen=True)
class Twist:
    """Draws in which losses near ``target`` are common, and their likelihood ratios (exponential twisting).

    For normal moves the twist is that of Glasserman, Heidelberger & Shahabuddin (2000), for Student-t moves that of
    their paper of 2002: there V (loss - target) is twisted, V the chi-square over its degrees.
    """

    form: Quadratic
    target: float
    theta: float
    degrees: float

    @property
    def inputs(self) -> int:
        """Uniforms that one draw takes."""
        return len(self.form.linear) + (self.degrees < math.inf)

    def draw(self, uniforms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(x - mean, likelihood ratios), shapes (n_samples, n) and (n_samples,), from points of the cube."""
        from scipy.special import gammaincinv, ndtri

        form, theta = self.form, self.theta
        spread = 1.0 / (1.0 - 2.0 * theta * form.curvature)
        if self.degrees == math.inf:
            z = theta * form.linear * spread + np.sqrt(spread) * ndtri(uniforms)
            twisted = theta * (z @ form.linear + (z**2) @ form.curvature)
            return z @ form.root.T, np.exp(_log_moment(form, theta) - twisted)
        calmer = 2.0 * _slope(form, theta, self.target) / self.degrees
        mixing = gammaincinv(self.degrees / 2, uniforms[:, 0]) * (2.0 / self.degrees) / (1.0 - calmer)
        root = np.sqrt(mixing)[:, None]
        z = theta * form.linear * spread * root + np.sqrt(spread) * ndtri(uniforms[:, 1:])
        twisted = theta * ((root * z) @ form.linear + (z**2) @ form.curvature - self._above(mixing))
        cumulant = -0.5 * float(np.log1p(-2.0 * theta * form.curvature).sum())
        cumulant -= 0.5 * self.degrees * math.log1p(-calmer)
        return (z / root) @ form.root.T, np.exp(cumulant - twisted)

    def _above(self, mixing: np.ndarray) -> np.ndarray:
        return mixing * (self.target - self.form.constant)


def twist(form: Quadratic, target: float, degrees: float = math.inf) -> Twist:
    """The twist under which the quadratic loss has mean ``target`` (for Student-t: V (loss - target) has mean 0).

    Raises
    ------
    InvalidMarketData
        The loss does not vary, or ``target`` is not above its middle: nothing is rare there.
    """
    from scipy.optimize import minimize_scalar

    if not (np.abs(form.linear).max(initial=0.0) > 0 or np.abs(form.curvature).max(initial=0.0) > 0):
        raise InvalidMarketData("the book's loss does not vary, so it has no rare losses", "Give a book with risk")
    top = float(form.curvature.max(initial=0.0))
    reach = CLOSE_TO_POLE / (2.0 * top) if top > 0 else math.inf

    def cumulant(theta: float) -> float:
        if degrees == math.inf:
            return _log_moment(form, theta) - theta * (target - form.constant)
        calmer = 2.0 * _slope(form, theta, target) / degrees
        if not calmer < 1:
            return math.inf
        return -0.5 * float(np.log1p(-2.0 * theta * form.curvature).sum()) - 0.5 * degrees * math.log1p(-calmer)

    # The cumulant is convex and vanishes at 0: its minimum lies before the first place where it is positive again.
    scale = 1.0 / math.sqrt(float(form.linear @ form.linear) + 2.0 * float(form.curvature @ form.curvature))
    upper = min(reach, scale)
    while upper < reach and cumulant(upper) < 0:
        upper = min(reach, 2.0 * upper)
    if cumulant(upper) == math.inf:  # the Student-t cumulant ends at a pole: stay just before it
        finite = 0.0
        for _ in range(BISECTIONS):
            middle = 0.5 * (finite + upper)
            finite, upper = (finite, middle) if cumulant(middle) == math.inf else (middle, upper)
        upper = finite
    found = minimize_scalar(cumulant, bounds=(0.0, upper), method="bounded", options={"xatol": 1e-6 * upper})
    if not cumulant(found.x) < 0:
        raise InvalidMarketData(
            f"a loss of {target:.3g} is not rare for this book", "Ask for a confidence above its median loss"
        )
    return Twist(form=form, target=target, theta=float(found.x), degrees=degrees)


def weighted_tail(losses: np.ndarray, weights: np.ndarray, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) of a weighted sample.

    Parameters
    ----------
    losses : ndarray of shape (n,)
    weights : ndarray of shape (n,)
        Likelihood ratios or strata weights, 1 on average; they are not made to sum to n.

    Raises
    ------
    InvalidMarketData
        A value is not finite, or nothing in the sample lies beyond the quantile.
    """
    if losses.size == 0 or not (np.isfinite(losses).all() and np.isfinite(weights).all()):
        raise InvalidMarketData("the sample is empty or holds a value that is not finite", "Correct the market data")
    order = np.argsort(-losses, kind="stable")
    size = (1 - confidence) * len(losses)
    beyond = np.cumsum(weights[order])
    place = int(np.searchsorted(beyond, size + RANK_TOLERANCE * len(losses), side="right"))
    if place >= len(losses):
        raise InvalidMarketData("the weights do not reach the quantile", "Draw more samples")
    var = float(losses[order[place]])
    worse = order[:place]
    return var, var + float(weights[worse] @ (losses[worse] - var)) / size


def strata_weights(control: np.ndarray, edges: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Weights that give every stratum of a control its known probability (post-stratification), shape (n,).

    Parameters
    ----------
    control : ndarray of shape (n,)
    edges : ndarray of shape (k,)
        Values of the control at which strata meet, rising.
    probabilities : ndarray of shape (k,)
        P(control <= edge), known in closed form.

    An empty stratum gives its probability to the one below it.
    """
    n = len(control)
    strata = np.searchsorted(edges, control, side="left")
    counts = np.bincount(strata, minlength=len(edges) + 1).astype(float)
    known = np.diff(np.concatenate(([0.0], probabilities, [1.0])))
    home = np.maximum.accumulate(np.where(counts > 0, np.arange(len(counts)), -1))
    home[home < 0] = int(np.flatnonzero(counts > 0)[0])
    owned = np.bincount(home, weights=known, minlength=len(counts))
    return np.asarray((owned * n / np.maximum(counts, 1.0))[strata])


def _log_moment(form: Quadratic, theta: float) -> float:
    """log E exp(theta (loss - constant)) under normal moves."""
    room = 1.0 - 2.0 * theta * form.curvature
    return float(0.5 * (theta**2 * form.linear**2 / room).sum() - 0.5 * np.log(room).sum())


def _slope(form: Quadratic, theta: float, target: float) -> float:
    """Factor of V in the twisted exponent of Student-t moves."""
    room = 1.0 - 2.0 * theta * form.curvature
    return float(0.5 * (theta**2 * form.linear**2 / room).sum()) - theta * (target - form.constant)
