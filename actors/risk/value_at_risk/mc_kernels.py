"""Compiled Monte Carlo: moves drawn, book revalued and tail found in one pass through the cache, nothing stored.

The generator is SplitMix64 (Steele, Lea & Flood 2014) read by counter: the normals of row r depend on the seed and r
alone. So the rows of the tail are drawn a second time for their contributions, instead of keeping all the moves. Rows
are worked on in blocks whose innermost loops run over rows, so that the compiler makes vector code of them; logarithm
and sine are polynomials without branches, right to about 1e-11.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit

from actors.risk.kernels import FASTMATH, NO_GUESS, tail_of, tail_rows

BLOCK = 256  # rows worked on together: 20 assets of them fill a third of a first-level cache
GOLDEN = np.uint64(0x9E3779B97F4A7C15)
MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
MIX_2 = np.uint64(0x94D049BB133111EB)
ONE = np.uint64(0x3FF0000000000000)  # bits of 1.0
MANTISSA = np.uint64(0x000FFFFFFFFFFFFF)
TWO_52 = np.uint64(0x4330000000000000)  # bits of 2^52: added to a small integer, they make a float of it
HALF_ULP = 2.0**-53
SQRT_2 = math.sqrt(2.0)
LN_2 = math.log(2.0)
MIXING_STREAM = np.uint64(0xD1B54A32D192ED03)  # sets the stream of mixing variables apart from that of the normals


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def simulate(
    seed: np.uint64,
    mean: np.ndarray,
    root: np.ndarray,
    weights: np.ndarray,
    gammas: np.ndarray,
    degrees: float,
    confidence: float,
    buffers: tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray],
    contributions: np.ndarray,
) -> tuple[float, float]:
    """(VaR, CVaR) of a simulated book, positive losses; NaN twice where an input is not finite.

    Parameters
    ----------
    mean : ndarray of shape (n,)
    root : ndarray of shape (n, n)
        Lower triangular, root @ root.T the covariance (for Student-t: the scale matrix).
    weights, gammas : ndarray of shape (n,)
        Position i earns w_i (r_i + gamma_i r_i^2 / 2).
    degrees : float
        Of Student-t moves; infinite for normal ones.
    buffers : losses (m,), scratch (m,), mixing (m,), rows int64 (m,), work (n + 8, BLOCK)
        m is the number of rows drawn.
    contributions : ndarray of shape (n,)
        Receives the mean loss of each position in the tail; they sum to CVaR.
    """
    losses, scratch, mixing, rows, work = buffers
    m, n = losses.size, mean.size
    heavy = degrees < np.inf
    if heavy:
        _mixing(seed ^ MIXING_STREAM, degrees, mixing)
    order = work[n + 1].view(np.int64)
    for start in range(0, m, BLOCK):
        count = min(BLOCK, m - start)
        for row in range(count):
            order[row] = start + row
        _draw(seed, order, count, n, work)
        total = losses[start : start + count]
        total[:] = 0.0
        for i in range(n - 1, -1, -1):
            _move(i, root, mean, mixing, order, heavy, count, work, n)
            w, g = weights[i], 0.5 * gammas[i]
            moved = work[n]
            for row in range(count):
                total[row] -= w * (moved[row] + g * moved[row] * moved[row])
    var, cvar = tail_of(losses, scratch, confidence, NO_GUESS)
    contributions[:] = 0.0
    if np.isnan(var):
        return var, cvar
    found = tail_rows(losses, var, confidence, rows, scratch)
    for start in range(0, found, BLOCK):
        count = min(BLOCK, found - start)
        for row in range(count):
            order[row] = rows[start + row]
        _draw(seed, order, count, n, work)
        for i in range(n - 1, -1, -1):
            _move(i, root, mean, mixing, order, heavy, count, work, n)
            moved = work[n]
            g = 0.5 * gammas[i]
            part = 0.0
            for row in range(count):
                part += scratch[start + row] * (moved[row] + g * moved[row] * moved[row])
            contributions[i] -= weights[i] * part
    return var, cvar


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _move(
    i: int,
    root: np.ndarray,
    mean: np.ndarray,
    mixing: np.ndarray,
    order: np.ndarray,
    heavy: bool,
    count: int,
    work: np.ndarray,
    n: int,
) -> None:
    """Moves of asset ``i`` into work[n]."""
    moved = work[n]
    moved[:count] = 0.0
    for j in range(i + 1):
        f = root[i, j]
        normal = work[j]
        for row in range(count):
            moved[row] += f * normal[row]
    if heavy:
        for row in range(count):
            moved[row] *= mixing[order[row]]
    centre = mean[i]
    for row in range(count):
        moved[row] = max(moved[row] + centre, -1.0)  # nothing falls by more than all of it


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _draw(seed: np.uint64, order: np.ndarray, count: int, n: int, work: np.ndarray) -> None:
    """Standard normals of the rows ``order`` into work[:n], by pairs (Box & Muller 1958)."""
    pairs = (n + 1) // 2
    stride = np.uint64(2 * pairs)
    first, bits_1 = work[n + 2], work[n + 2].view(np.uint64)
    second, bits_2 = work[n + 3], work[n + 3].view(np.uint64)
    mantissa, bits_3 = work[n + 4], work[n + 4].view(np.uint64)
    exponent, bits_4 = work[n + 5], work[n + 5].view(np.uint64)
    spare = work[n + 6]
    for pair in range(pairs):
        offset = np.uint64(2 * pair + 1)
        for row in range(count):
            at = seed + (np.uint64(order[row]) * stride + offset) * GOLDEN
            bits_1[row] = (_mixed(at) >> np.uint64(12)) | ONE
        for row in range(count):
            at = seed + (np.uint64(order[row]) * stride + offset + np.uint64(1)) * GOLDEN
            bits_2[row] = (_mixed(at) >> np.uint64(12)) | ONE
        for row in range(count):
            first[row] = (first[row] - 1.0) + HALF_ULP
        for row in range(count):
            bits_3[row] = (bits_1[row] & MANTISSA) | ONE
        for row in range(count):
            bits_4[row] = (bits_1[row] >> np.uint64(52)) | TWO_52
        even = work[2 * pair]
        odd = work[2 * pair + 1] if 2 * pair + 1 < n else spare
        for row in range(count):
            m, e = mantissa[row], exponent[row] - (4503599627370496.0 + 1023.0)
            large = m > SQRT_2
            m = 0.5 * m if large else m
            e = e + 1.0 if large else e
            s = (m - 1.0) / (m + 1.0)
            q = s * s
            # log m = 2 artanh s, |s| <= 0.1716: the next term is below 1e-13 of it.
            tail = 1 / 3 + q * (1 / 5 + q * (1 / 7 + q * (1 / 9 + q * (1 / 11 + q * (1 / 13 + q / 15)))))
            radius = np.sqrt(-2.0 * (e * LN_2 + 2.0 * s * (1.0 + q * tail)))
            # Half the angle, in (-pi/2, pi/2), and from it the whole: no quadrant to look up.
            a = math.pi * (second[row] - 1.5 + HALF_ULP)
            p = a * a
            sine = a * (1.0 + p * (-1 / 6 + p * (1 / 120 + p * (-1 / 5040 + p * (1 / 362880 + p * _sine_rest(p))))))
            cosine = 1.0 + p * (-1 / 2 + p * (1 / 24 + p * (-1 / 720 + p * (1 / 40320 + p * _cosine_rest(p)))))
            even[row] = radius * (cosine * cosine - sine * sine)
            odd[row] = radius * (2.0 * sine * cosine)


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _sine_rest(p):  # type: ignore[no-untyped-def]
    return -1 / 39916800 + p * (1 / 6227020800 + p * (-1 / 1307674368000 + p / 355687428096000))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _cosine_rest(p):  # type: ignore[no-untyped-def]
    return -1 / 3628800 + p * (1 / 479001600 + p * (-1 / 87178291200 + p * (1 / 20922789888000 - p / 6402373705728000)))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH, inline="always")
def _mixed(x):  # type: ignore[no-untyped-def]
    x = (x ^ (x >> np.uint64(30))) * MIX_1
    x = (x ^ (x >> np.uint64(27))) * MIX_2
    return x ^ (x >> np.uint64(31))


@njit(cache=True, nogil=True, error_model="numpy", fastmath=FASTMATH)
def _mixing(seed: np.uint64, degrees: float, mixing: np.ndarray) -> None:
    """sqrt(degrees / chi-square) of every row, the chi-square by Marsaglia & Tsang (2000)."""
    d = 0.5 * degrees - 1.0 / 3.0  # shape of the gamma variable is degrees / 2 > 1
    c = 1.0 / np.sqrt(9.0 * d)
    at = seed
    for row in range(mixing.size):
        while True:
            at += GOLDEN
            u = (np.float64(_mixed(at) >> np.uint64(11)) + 0.5) * HALF_ULP
            at += GOLDEN
            v = (np.float64(_mixed(at) >> np.uint64(11)) + 0.5) * HALF_ULP
            at += GOLDEN
            x = np.sqrt(-2.0 * np.log(u)) * np.cos(2.0 * math.pi * v)
            cube = 1.0 + c * x
            if cube <= 0.0:
                continue
            cube = cube * cube * cube
            w = (np.float64(_mixed(at) >> np.uint64(11)) + 0.5) * HALF_ULP
            if np.log(w) < 0.5 * x * x + d - d * cube + d * np.log(cube):
                break
        mixing[row] = np.sqrt(degrees / (2.0 * d * cube))


def simulate_plain(
    seed: int,
    mean: np.ndarray,
    root: np.ndarray,
    weights: np.ndarray,
    gammas: np.ndarray,
    mixing: np.ndarray,
    rows: int,
) -> np.ndarray:
    """Plain twin of :func:`simulate` up to the tail: losses by position, shape (rows, n), with exact functions.

    ``mixing`` has shape (rows,), ones for normal moves.
    """
    moves = np.maximum(mean + mixing[:, None] * (normals_plain(seed, rows, len(mean)) @ root.T), -1.0)
    return np.asarray(-weights * (moves + gammas * moves**2 / 2))


def normals_plain(seed: int, rows: int, n: int) -> np.ndarray:
    """The generator's normals, shape (rows, n), with exact functions."""
    pairs = (n + 1) // 2
    places = np.arange(rows * 2 * pairs, dtype=np.uint64) + np.uint64(1)
    with np.errstate(over="ignore"):
        x = np.uint64(seed) + places * GOLDEN
        x = (x ^ (x >> np.uint64(30))) * MIX_1
        x = (x ^ (x >> np.uint64(27))) * MIX_2
    x ^= x >> np.uint64(31)
    unit = ((x >> np.uint64(12)).astype(float) * 2.0**-52 + HALF_ULP).reshape(rows, pairs, 2)
    radius = np.sqrt(-2.0 * np.log(unit[..., 0]))
    angle = 2.0 * np.pi * (unit[..., 1] - 0.5)
    pairs_of = np.stack([radius * np.cos(angle), radius * np.sin(angle)], axis=-1)
    return np.asarray(pairs_of.reshape(rows, 2 * pairs)[:, :n])


def buffers_for(rows: int, n: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Buffers of :func:`simulate` for ``rows`` draws of ``n`` assets."""
    return np.empty(rows), np.empty(rows), np.ones(rows), np.empty(rows, np.int64), np.empty((n + 8, BLOCK))


def warm() -> None:
    """Compile every kernel for the types it is called with."""
    n = 3
    buffers = buffers_for(400, n)
    for degrees in (math.inf, 5.0):
        simulate(
            np.uint64(1), np.zeros(n), np.eye(n), np.full(n, 1 / n), np.zeros(n), degrees, 0.95, buffers, np.empty(n)
        )
    _, _, mixing, _, work = buffers
    order = np.arange(BLOCK)
    _draw(np.uint64(1), order, BLOCK, n, work)
    _move(1, np.eye(n), np.zeros(n), mixing, order, True, BLOCK, work, n)
    _mixing(np.uint64(1), 5.0, mixing)
