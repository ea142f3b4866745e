"""Importance sampling for the panel: draws in which losses beyond a book's VaR are common."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from actors.risk.measures import tail
from actors.risk.sampling import jumps_of, uniforms
from actors.risk.value_at_risk.variance_reduction import Twist, quadratic, twist
from swarm.bench.accuracy import panel

PILOT = 2**14  # draws of the quadratic approximation that place a twist; no evaluations of the book
PILOT_SEED = 11
LIKELY_JUMPS = 0.5  # jumps a day under which a day with one is as likely as not

Draw = Callable[[np.ndarray], tuple[np.ndarray, np.ndarray]]


def rare_draws(law: str, book: str, dimension: int, confidence: float) -> Draw:
    """(moves, likelihood ratios) from points of the cube of dimension + 2 inputs, of which a law uses what it needs."""
    greeks = panel.sensitivities(book, dimension)
    model = panel.law(law, dimension)
    pilot = model.transform(uniforms("plain", PILOT, model.inputs, np.random.SeedSequence([PILOT_SEED, dimension])))
    approximate = -(pilot @ greeks.delta + 0.5 * (pilot**2 @ greeks.gamma))
    target = tail(approximate, confidence)[0]
    root: np.ndarray = model.root  # type: ignore[attr-defined]
    if law == "jump_diffusion":
        return _jump_twist(dimension, greeks.delta, root, tail(-(np.log1p(pilot) @ greeks.delta), confidence)[0])
    found: Twist = twist(
        quadratic(np.zeros(dimension), root, greeks.delta, greeks.gamma),
        target,
        panel.DEGREES if law == "student_t" else float("inf"),
    )
    return lambda cube: found.draw(cube[:, : found.inputs])


def _jump_twist(dimension: int, delta: np.ndarray, root: np.ndarray, target: float) -> Draw:
    """Jumps made likely; given their number, the linear loss of log moves is shifted to ``target`` where below."""
    from scipy.special import ndtri

    intensity = panel.JUMPS_A_DAY
    slope = -root.T @ delta
    along = -float(delta.sum())

    def draw(cube: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        jumps = jumps_of(cube[:, 0], LIKELY_JUMPS)
        log_ratio = LIKELY_JUMPS - intensity + jumps * np.log(intensity / LIKELY_JUMPS)
        z = ndtri(cube[:, 1:])  # the common jump, then the diffusion
        reach = np.sqrt(jumps) * panel.JUMP_DEVIATION * along
        variance = reach**2 + slope @ slope
        theta = np.maximum(0.0, (target - jumps * panel.JUMP_MEAN * along) / variance)
        z[:, 0] += theta * reach
        z[:, 1:] += theta[:, None] * slope
        log_ratio += 0.5 * theta**2 * variance - theta * (z[:, 0] * reach + z[:, 1:] @ slope)
        common = jumps * panel.JUMP_MEAN + np.sqrt(jumps) * panel.JUMP_DEVIATION * z[:, 0]
        return np.expm1(z[:, 1:] @ root.T + common[:, None]), np.exp(log_ratio)

    return draw
