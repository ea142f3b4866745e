"""What the panel's estimates are held against: closed forms, Fourier inversion, or a far larger reference sample."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from actors.risk.measures import tail
from actors.risk.sampling import factor_of
from actors.risk.value_at_risk.variance_reduction import quadratic, weighted_tail
from swarm.bench.accuracy import panel
from swarm.bench.accuracy.rare import rare_draws

REFERENCE_NETS = 16
REFERENCE_POINTS = 2**20  # a net; 16 of them make 1.7e7 samples
RARE_SHARE = 8  # importance samples are drawn for every book and confidence anew, and are worth more
CHUNK = 2**15
EFFECTIVE_SHARE = 0.99
PILOT = 2**14


@dataclass(frozen=True)
class Truth:
    """True figures of one law and dimension, arrays of shape (books, confidences, measures)."""

    values: np.ndarray
    errors: np.ndarray
    """Standard errors; 0 where the value is exact."""
    sources: tuple[str, ...]
    """How the figures of each book were found."""


def truth(law: str, dimension: int, nets: int = REFERENCE_NETS, points: int = REFERENCE_POINTS) -> Truth:
    """True VaR and CVaR of every book at every confidence."""
    values, errors = reference(law, dimension, nets, points)
    rare_values, rare_errors = rare_reference(law, dimension, nets, points // RARE_SHARE)
    better = rare_errors < errors
    values, errors = np.where(better, rare_values, values), np.where(better, rare_errors, errors)
    sources = [
        f"{nets} Sobol nets of {points} points, or as many importance samples of {points // RARE_SHARE}: "
        "the one with the smaller error"
    ] * len(panel.BOOKS)
    for place, book in enumerate(panel.BOOKS):
        exact = closed_form(law, book, dimension)
        if exact is not None:
            values[place], errors[place] = exact, 0.0
            sources[place] = "closed form" if book == "linear" else "Fourier inversion"
    return Truth(values, errors, tuple(sources))


def closed_form(law: str, book: str, dimension: int) -> np.ndarray | None:
    """Exact (VaR, CVaR) by confidence, shape (confidences, 2); None where there is no closed form."""
    from scipy import stats

    if book == "linear" and law in ("gaussian", "student_t"):
        share = panel.weights(dimension)
        deviation = math.sqrt(share @ panel.covariance(dimension) @ share)
        rows = []
        for confidence in panel.CONFIDENCES:
            if law == "gaussian":
                z = stats.norm.ppf(confidence)
                rows.append((deviation * z, deviation * stats.norm.pdf(z) / (1 - confidence)))
            else:
                v = panel.DEGREES
                q, scale = stats.t.ppf(confidence, v), deviation * math.sqrt((v - 2) / v)
                rows.append((scale * q, scale * stats.t.pdf(q, v) * (v + q**2) / (v - 1) / (1 - confidence)))
        return np.array(rows)
    if book == "delta_gamma" and law == "gaussian":
        greeks = panel.sensitivities(book, dimension)
        if dimension == 1:
            deviation = float(panel.volatilities(1)[0])
            form_1 = (-float(greeks.delta[0]) * deviation, -0.5 * float(greeks.gamma[0]) * deviation**2)
            return np.array([_parabola(*form_1, confidence) for confidence in panel.CONFIDENCES])
        form = quadratic(np.zeros(dimension), factor_of(panel.covariance(dimension)), greeks.delta, greeks.gamma)
        return np.array([_inverted(form.linear, form.curvature, confidence) for confidence in panel.CONFIDENCES])
    return None


def _parabola(b: float, c: float, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) of bz + cz^2 with c > 0, z one standard normal: beyond VaR lie the two ends of z."""
    from scipy.optimize import brentq
    from scipy.stats import norm

    def ends(loss: float) -> tuple[float, float]:
        root = math.sqrt(b * b + 4 * c * loss)
        return (-b - root) / (2 * c), (-b + root) / (2 * c)

    def beyond(loss: float) -> float:
        low, high = ends(loss)
        return float(norm.cdf(low) + norm.sf(high))

    floor = -b * b / (4 * c)
    var = brentq(lambda loss: beyond(loss) - (1 - confidence), floor, 40 * (abs(b) + c) + floor, xtol=1e-15)
    low, high = ends(var)
    first = b * (norm.pdf(high) - norm.pdf(low))
    second = c * (norm.cdf(low) - low * norm.pdf(low) + norm.sf(high) + high * norm.pdf(high))
    return var, float(first + second) / (1 - confidence)


def _inverted(linear: np.ndarray, curvature: np.ndarray, confidence: float) -> tuple[float, float]:
    """(VaR, CVaR) of b'z + z'Lz, z standard normal, by Gil-Pelaez inversion of its characteristic function."""
    from scipy.optimize import brentq

    scale = math.sqrt(float(linear @ linear) + 2 * float(curvature @ curvature))
    b, c = linear / scale, curvature / scale
    nodes, shares = np.polynomial.legendre.leggauss(64)
    edges = np.linspace(0.0, 60.0, 121)
    middles, halves = (edges[1:] + edges[:-1]) / 2, np.diff(edges) / 2
    t = (middles[:, None] + halves[:, None] * nodes).ravel()
    dt = (halves[:, None] * shares).ravel()
    room = 1 - 2j * t[:, None] * c
    phi = np.exp((-0.5 * t[:, None] ** 2 * b**2 / room - 0.5 * np.log(room)).sum(axis=1))

    def beyond(x: float) -> float:
        return float(0.5 + (np.imag(phi * np.exp(-1j * t * x)) / t * dt).sum() / math.pi)

    mean = float(c.sum())
    var = brentq(lambda x: beyond(x) - (1 - confidence), mean - 5, mean + 60, xtol=1e-13)
    # E(X - q)+ = (E X - q) / 2 + (1 / pi) int Re((phi(0) - phi(t) exp(-itq)) / t^2) dt, the tail of it 1 / t.
    whole = (np.real(1 - phi * np.exp(-1j * t * var)) / t**2 * dt).sum() + 1 / edges[-1]
    excess = 0.5 * (mean - var) + whole / math.pi
    return scale * var, scale * (var + float(excess) / (1 - confidence))


def reference(law: str, dimension: int, nets: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """Means over independent scrambled nets and their standard errors, shape (books, confidences, measures)."""
    from scipy.stats import qmc

    model = panel.law(law, dimension, direction=panel.weights(dimension))
    losses = [panel.loss_of(book, dimension) for book in panel.BOOKS]
    found = np.empty((nets, len(panel.BOOKS), len(panel.CONFIDENCES), len(panel.MEASURES)))
    for net in range(nets):
        seed = np.random.SeedSequence([9, dimension, panel.LAWS.index(law), net])
        engine = qmc.Sobol(model.inputs, scramble=True, bits=52, rng=np.random.default_rng(seed))
        whole = np.empty((len(panel.BOOKS), points))
        for start in range(0, points, CHUNK):
            cube = np.clip(engine.random(min(CHUNK, points - start)), 2.0**-54, 1 - 2.0**-54)
            moves = model.transform(cube)
            for place, loss in enumerate(losses):
                whole[place, start : start + len(moves)] = loss(moves)
        for place in range(len(panel.BOOKS)):
            for column, confidence in enumerate(panel.CONFIDENCES):
                found[net, place, column] = tail(whole[place], confidence)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(nets)


def rare_reference(law: str, dimension: int, repeats: int, points: int) -> tuple[np.ndarray, np.ndarray]:
    """The same by importance sampling, which still has a variance where losses squared have none."""
    found = np.empty((repeats, len(panel.BOOKS), len(panel.CONFIDENCES), len(panel.MEASURES)))
    for place, book in enumerate(panel.BOOKS):
        loss = panel.loss_of(book, dimension)
        for column, confidence in enumerate(panel.CONFIDENCES):
            draw = rare_draws(law, book, dimension, confidence)
            for repeat in range(repeats):
                rng = np.random.default_rng([8, dimension, panel.LAWS.index(law), place, column, repeat])
                losses, ratios = np.empty(points), np.empty(points)
                for start in range(0, points, CHUNK):
                    part = slice(start, min(start + CHUNK, points))
                    cube = np.clip(rng.random((part.stop - start, dimension + 2)), 2.0**-54, 1 - 2.0**-54)
                    moves, ratios[part] = draw(cube)
                    losses[part] = loss(moves)
                found[repeat, place, column] = weighted_tail(losses, ratios, confidence)
    return found.mean(axis=0), found.std(axis=0, ddof=1) / math.sqrt(repeats)


def effective_dimension(law: str, book: str, dimension: int) -> int:
    """Inputs, the weightiest first, that carry 99 % of the loss variance (truncation dimension, pick and freeze)."""
    model, loss = panel.law(law, dimension), panel.loss_of(book, dimension)
    rng = np.random.default_rng([7, dimension, panel.LAWS.index(law), panel.BOOKS.index(book)])
    first, second = rng.random((PILOT, model.inputs)), rng.random((PILOT, model.inputs))
    base = loss(model.transform(first))
    low, high = 1, model.inputs
    while low < high:
        middle = (low + high) // 2
        mixed = np.concatenate([first[:, :middle], second[:, middle:]], axis=1)
        carried = np.corrcoef(base, loss(model.transform(mixed)))[0, 1]
        low, high = (low, middle) if carried >= EFFECTIVE_SHARE else (middle + 1, high)
    return low
