"""Random moves of a market: points of the unit cube by several methods, and models that turn a point into moves.

A model takes a fixed number of uniforms to one joint move, so that every sampling method drives every model, and the
first uniforms move the most: mixing variable and jumps first, then the principal components in falling order.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal, Protocol

import numpy as np

from cluster.errors import InvalidMarketData, InvalidRequest

Method = Literal["plain", "antithetic", "stratified", "sobol"]
Factor = Literal["pca", "cholesky"]
METHODS: tuple[Method, ...] = ("plain", "antithetic", "stratified", "sobol")
DAYS_A_SYMBOL = 5
NULL_DIRECTION = 1e-9  # variance of a direction over the largest, below which symbols repeat each other
DEGREES = (2.1, 100.0)  # searched; above, Student-t moves are next to normal ones
EDGE = 2.0**-54  # uniforms stay this far inside (0, 1): their normal quantiles are finite
NEGATIVE = 1e-10  # share of the largest eigenvalue below zero that is rounding, not a wrong covariance


class Model(Protocol):
    """A joint law of moves over one horizon."""

    @property
    def dimension(self) -> int:
        """Moves in one draw."""

    @property
    def inputs(self) -> int:
        """Uniforms that one draw takes."""

    def transform(self, uniforms: np.ndarray) -> np.ndarray:
        """Moves, shape (n, dimension), from points of the unit cube, shape (n, inputs)."""


def uniforms(method: Method, n: int, inputs: int, seed: int | np.random.SeedSequence) -> np.ndarray:
    """``n`` points of the open unit cube, shape (n, inputs).

    ``plain`` is independent; ``antithetic`` adds to every point of its first half the point 1 - u; ``stratified`` is a
    Latin hypercube (one point in each of n equal strata of every input); ``sobol`` is a Sobol net under a
    random linear scramble and digital shift (Matousek 1998), randomised anew by every seed.

    Raises
    ------
    InvalidRequest
        ``n`` is not positive, is odd for ``antithetic``, or is no power of two for ``sobol``.
    """
    if n < 1:
        raise InvalidRequest(f"{n} samples are asked for", "Ask for at least one")
    rng = np.random.default_rng(seed)
    if method == "sobol":
        if n & (n - 1):
            below = 1 << (n.bit_length() - 1)
            raise InvalidRequest(
                f"{n} Sobol points are no power of two, and an incomplete net is no better than chance",
                f"Ask for {below} or {2 * below}",
            )
        from scipy.stats import qmc

        points = qmc.Sobol(inputs, scramble=True, bits=52, rng=rng).random_base2(n.bit_length() - 1)
    elif method == "stratified":
        strata = rng.permuted(np.tile(np.arange(n), (inputs, 1)), axis=1).T
        points = (strata + rng.random((n, inputs))) / n
    elif method == "antithetic":
        if n % 2:
            raise InvalidRequest(f"{n} antithetic samples are no pairs", f"Ask for {n + 1}")
        half = rng.random((n // 2, inputs))
        points = np.concatenate([half, 1.0 - half])
    elif method == "plain":
        points = rng.random((n, inputs))
    else:
        raise InvalidRequest(f"sampling method {method!r} is unknown", f"Known are: {', '.join(METHODS)}")
    return np.asarray(np.clip(points, EDGE, 1.0 - EDGE))


def factor_of(covariance: np.ndarray, kind: Factor = "pca", direction: np.ndarray | None = None) -> np.ndarray:
    """A matrix F, shape (n, n), with F F' = ``covariance``: principal components in falling order, or Cholesky's.

    With a ``direction``, shape (n,), F is turned so that the first normal alone moves direction'x: what a sampling
    method does well in its first input, it then does for that combination of moves.

    Raises
    ------
    InvalidMarketData
        Not finite, not symmetric, or not positive semidefinite (for ``cholesky``: not definite).
    """
    if covariance.ndim != 2 or covariance.shape[0] != covariance.shape[1] or not np.isfinite(covariance).all():
        raise InvalidMarketData("the covariance is no finite square matrix", "Correct the market data")
    if not np.allclose(covariance, covariance.T, rtol=1e-9, atol=0.0):
        raise InvalidMarketData("the covariance is not symmetric", "Correct the market data")
    if direction is not None:
        return _turned(factor_of(covariance, kind), direction)
    if kind == "cholesky":
        try:
            return np.asarray(np.linalg.cholesky(covariance))
        except np.linalg.LinAlgError as error:
            raise InvalidMarketData("the covariance is not positive definite", "Use the `pca` factor") from error
    values, vectors = np.linalg.eigh(covariance)
    if values[0] < -NEGATIVE * max(values[-1], 0.0) or values[-1] < 0:
        raise InvalidMarketData(
            f"the covariance has the negative eigenvalue {values[0]:.2e}", "Repair it to the nearest one that has none"
        )
    return np.asarray(vectors[:, ::-1] * np.sqrt(np.clip(values[::-1], 0.0, None)))


def _turned(root: np.ndarray, direction: np.ndarray) -> np.ndarray:
    """``root`` times the reflection (Householder) that takes the first axis to root' direction."""
    along = root.T @ direction
    length = float(np.linalg.norm(along))
    if not length > 0:
        return root
    normal = along / length
    normal[0] -= 1.0
    square = float(normal @ normal)
    return root if square == 0 else np.asarray(root - np.outer(root @ normal, normal) * (2.0 / square))


@dataclass(frozen=True)
class Gaussian:
    """Multivariate normal moves.

    Parameters
    ----------
    mean : ndarray of shape (n,)
    covariance : ndarray of shape (n, n)
    """

    mean: np.ndarray
    covariance: np.ndarray
    factor: Factor = field(default="pca", kw_only=True)
    direction: np.ndarray | None = field(default=None, kw_only=True)
    """Combination of moves that the first normal shall carry alone, shape (n,)."""

    @property
    def dimension(self) -> int:
        """Moves in one draw."""
        return len(self.mean)

    @property
    def inputs(self) -> int:
        """Uniforms that one draw takes."""
        return self.dimension

    @cached_property
    def root(self) -> np.ndarray:
        """F with F F' = covariance, shape (n, n)."""
        return factor_of(self.covariance, self.factor, self.direction)

    def transform(self, uniforms: np.ndarray) -> np.ndarray:
        """Moves, shape (n_samples, n)."""
        return np.asarray(self.mean + _normals(uniforms) @ self.root.T)


@dataclass(frozen=True)
class StudentT:
    """Multivariate Student-t moves of covariance ``covariance``: the scale matrix is (degrees - 2) / degrees of it.

    The first uniform is the mixing variable's: 1 for the calmest draw, near 0 for the wildest.

    Raises
    ------
    InvalidMarketData
        ``degrees`` is not above 2: there is no covariance.
    """

    mean: np.ndarray
    covariance: np.ndarray
    degrees: float
    factor: Factor = field(default="pca", kw_only=True)
    direction: np.ndarray | None = field(default=None, kw_only=True)
    """Combination of moves that the first normal shall carry alone, shape (n,)."""

    def __post_init__(self) -> None:
        if not self.degrees > 2:
            raise InvalidMarketData(f"{self.degrees:g} degrees of freedom have no covariance", "Give more than 2")

    @property
    def dimension(self) -> int:
        """Moves in one draw."""
        return len(self.mean)

    @property
    def inputs(self) -> int:
        """Uniforms that one draw takes."""
        return self.dimension + 1

    @cached_property
    def root(self) -> np.ndarray:
        """F with F F' = scale matrix, shape (n, n)."""
        return np.asarray(
            factor_of(self.covariance, self.factor, self.direction) * np.sqrt((self.degrees - 2) / self.degrees)
        )

    def transform(self, uniforms: np.ndarray) -> np.ndarray:
        """Moves, shape (n_samples, n)."""
        from scipy.special import gammaincinv

        # Chi-square over its degrees; its tables are inverted from the lower side, where the wild draws are.
        mixing = gammaincinv(self.degrees / 2, uniforms[:, 0]) * (2 / self.degrees)
        return np.asarray(self.mean + (_normals(uniforms[:, 1:]) / np.sqrt(mixing)[:, None]) @ self.root.T)


@dataclass(frozen=True)
class JumpDiffusion:
    """Merton's jump diffusion (1976) over one horizon, with jumps that strike every symbol at once.

    Log return of symbol i: mean_i + (F z)_i + K jump_mean_i + sqrt(K) jump_deviation_i y, with K Poisson(``intensity``)
    and y a standard normal common to all; the move is its exponential less 1. Idiosyncratic jumps are left in the
    diffusion: what endangers a book is what strikes it whole.

    Parameters
    ----------
    mean : ndarray of shape (n,)
        Mean of the diffusion part of the log return over the horizon.
    covariance : ndarray of shape (n, n)
        Covariance of that part.
    intensity : float
        Expected jumps within the horizon.
    jump_mean, jump_deviation : ndarray of shape (n,)
        Mean and standard deviation of one log jump.
    """

    mean: np.ndarray
    covariance: np.ndarray
    intensity: float
    jump_mean: np.ndarray
    jump_deviation: np.ndarray
    factor: Factor = field(default="pca", kw_only=True)
    direction: np.ndarray | None = field(default=None, kw_only=True)
    """Combination of moves that the first normal shall carry alone, shape (n,)."""

    def __post_init__(self) -> None:
        if not 0 <= self.intensity < 100:
            raise InvalidMarketData(f"the jump intensity {self.intensity!r} is out of range", "Give 0 to 100 jumps")
        if not (self.jump_deviation >= 0).all():
            raise InvalidMarketData("a jump deviation is negative", "Give standard deviations")

    @property
    def dimension(self) -> int:
        """Moves in one draw."""
        return len(self.mean)

    @property
    def inputs(self) -> int:
        """Uniforms that one draw takes."""
        return self.dimension + 2

    @cached_property
    def root(self) -> np.ndarray:
        """F with F F' = covariance of the diffusion, shape (n, n)."""
        return factor_of(self.covariance, self.factor, self.direction)

    @property
    def log_mean(self) -> np.ndarray:
        """Mean of the log returns, shape (n,)."""
        return np.asarray(self.mean + self.intensity * self.jump_mean)

    @property
    def log_covariance(self) -> np.ndarray:
        """Covariance of the log returns, shape (n, n)."""
        second = np.outer(self.jump_mean, self.jump_mean) + np.outer(self.jump_deviation, self.jump_deviation)
        return np.asarray(self.covariance + self.intensity * second)

    def transform(self, uniforms: np.ndarray) -> np.ndarray:
        """Moves, shape (n_samples, n)."""
        jumps = jumps_of(uniforms[:, 0], self.intensity)
        common = np.sqrt(jumps) * _normals(uniforms[:, 1])
        logs = self.mean + _normals(uniforms[:, 2:]) @ self.root.T
        logs += jumps[:, None] * self.jump_mean + common[:, None] * self.jump_deviation
        return np.asarray(np.expm1(logs))


def fitted_degrees(centred: np.ndarray) -> float:
    """Degrees of freedom that make Student-t moves, shape (n, d), likeliest; infinite where normal ones are.

    By the joint likelihood under the sample's own covariance: a shrunk one gives directions that hardly move too much
    variance, and normal moves then seem to have fat tails. Fewer than ``DAYS_A_SYMBOL`` days a symbol say nothing of
    the joint law, and the symbols are taken one by one.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import gammaln

    n, d = centred.shape
    deviations = centred.std(axis=0)
    moving = deviations > 0
    if not moving.any():
        raise InvalidMarketData("no symbol of the book moves", "Check the market data")
    standard = centred[:, moving] / deviations[moving]
    if n < DAYS_A_SYMBOL * standard.shape[1]:
        distance, d = (standard**2).ravel(), 1
    else:
        values, vectors = np.linalg.eigh(standard.T @ standard / n)
        kept = values > NULL_DIRECTION * values[-1]
        distance, d = ((standard @ vectors[:, kept]) ** 2 / values[kept]).sum(axis=1), int(kept.sum())
    n = len(distance)

    def against(inverse: float) -> float:
        v = 1.0 / inverse
        shape = gammaln((v + d) / 2) - gammaln(v / 2) - d / 2 * math.log((v - 2) * math.pi)
        return -float(n * shape - (v + d) / 2 * np.log1p(distance / (v - 2)).sum())

    found = minimize_scalar(against, bounds=(1 / DEGREES[1], 1 / DEGREES[0]), method="bounded", options={"xatol": 1e-5})
    normal = 0.5 * float(distance.sum()) + n * d / 2 * math.log(2 * math.pi)
    return 1.0 / float(found.x) if found.fun < normal else math.inf


def jumps_of(uniforms: np.ndarray, intensity: float) -> np.ndarray:
    """Poisson counts of mean ``intensity``, shape of ``uniforms``; small uniforms have many jumps."""
    from scipy.special import pdtrc

    most = int(intensity + 12 * np.sqrt(intensity + 1) + 20)
    beyond = pdtrc(np.arange(most), intensity)  # P(K > k), falling
    return np.searchsorted(-beyond, -uniforms, side="left").astype(float)


def _normals(uniforms: np.ndarray) -> np.ndarray:
    from scipy.special import ndtri

    return np.asarray(ndtri(uniforms))
