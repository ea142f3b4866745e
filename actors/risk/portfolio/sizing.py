"""How much to hold: Kelly in its corrected forms, a volatility target, a fixed fraction; and rounding to lots.

No edge means no position, and missing data is refused: a rule never returns a size for want of knowing better.
"""

from __future__ import annotations

import math

import numpy as np

from cluster.errors import InvalidRequest

QUARTER = 0.25
MAX_FRACTION = 0.02  # of equity at risk in one binary bet
MAX_SCALE = 2.0  # by which calm markets may raise a size


def kelly_binary(
    win_probability: float,
    payoff: float,
    *,
    fraction: float = QUARTER,
    scale: float = 1.0,
    cap: float = MAX_FRACTION,
) -> float:
    """Fraction of equity to lose on a bet that pays ``payoff`` times its stake: fraction x max(0, p - q / b) x scale.

    ``scale`` is base volatility over present volatility, at most 2, so that a quarter of Kelly never passes half of it.
    Zero where there is no edge.

    Raises
    ------
    InvalidRequest
        A probability outside [0, 1], a payoff that is not positive, or anything that is not finite: there is no data.
    """
    _finite(win_probability=win_probability, payoff=payoff, scale=scale, fraction=fraction, cap=cap)
    if not 0 <= win_probability <= 1 or not payoff > 0 or not scale > 0:
        raise InvalidRequest(
            f"a win probability of {win_probability:g} and a payoff of {payoff:g} describe no bet",
            "Give a probability in [0, 1] and mean win over mean loss",
        )
    edge = max(0.0, win_probability - (1 - win_probability) / payoff)
    return min(cap, fraction * edge * min(scale, MAX_SCALE))


def lower_win_probability(wins: int, trades: int, confidence: float = 0.95) -> float:
    """One-sided lower bound of the chance of a win (Clopper & Pearson 1934): few trades prove little.

    Raises
    ------
    InvalidRequest
        No trades, or more wins than trades.
    """
    from scipy.special import betaincinv

    if trades < 1 or not 0 <= wins <= trades:
        raise InvalidRequest(f"{wins} wins of {trades} trades tell nothing", "Give at least one trade")
    return float(betaincinv(wins, trades - wins + 1, 1 - confidence)) if wins else 0.0


def kelly_continuous(mean: float, volatility: float, *, fraction: float = QUARTER, penalty: float = 0.0) -> float:
    """Multiple of equity, mean / (volatility^2 (1 + 2 penalty)) x fraction; zero without an edge.

    ``penalty`` is the lambda of E log(1 + fX) - lambda f^2 s^2, with mean and volatility of one and the same period.

    Raises
    ------
    InvalidRequest
        The volatility is not positive, or something is not finite.
    """
    _finite(mean=mean, volatility=volatility, fraction=fraction, penalty=penalty)
    if not volatility > 0 or penalty < 0:
        raise InvalidRequest(
            f"a volatility of {volatility:g} gives no size", "Give a positive one of the mean's period"
        )
    return fraction * max(0.0, mean) / (volatility**2 * (1 + 2 * penalty))


def kelly_many(means: np.ndarray, covariance: np.ndarray, *, fraction: float = QUARTER) -> np.ndarray:
    """Weights fraction x S^-1 m, shape (n,): signed, unconstrained, of the period of both.

    Raises
    ------
    InvalidRequest
        The covariance is singular, or something is not finite.
    """
    if not (np.isfinite(means).all() and np.isfinite(covariance).all()):
        raise InvalidRequest("a mean or covariance is not finite", "Correct the market data")
    if np.linalg.matrix_rank(covariance, hermitian=True) < len(means):
        raise InvalidRequest("the covariance is singular: Kelly would bet without bound on its free lunch", "Shrink it")
    return np.asarray(fraction * np.linalg.solve(covariance, means))


def volatility_target(volatility: float, target: float, *, cap: float = MAX_SCALE) -> float:
    """Multiple of the present size at which volatility is ``target``, at most ``cap``.

    Raises
    ------
    InvalidRequest
        A volatility that is not positive or finite.
    """
    _finite(volatility=volatility, target=target)
    if not volatility > 0 or not target > 0:
        raise InvalidRequest(f"volatility {volatility:g} and target {target:g} give no size", "Give positive ones")
    return min(cap, target / volatility)


def fixed_fraction(equity: float, risked: float, loss_per_unit: float) -> float:
    """Units whose loss at the stop, costs included, is ``risked`` of equity.

    Raises
    ------
    InvalidRequest
        A loss per unit or equity that is not positive, or a fraction outside [0, 1].
    """
    _finite(equity=equity, risked=risked, loss_per_unit=loss_per_unit)
    if not equity > 0 or not 0 <= risked <= 1 or not loss_per_unit > 0:
        raise InvalidRequest("equity, risked fraction and loss per unit give no size", "Give positive amounts")
    return equity * risked / loss_per_unit


def whole_lots(units: float, lot: float) -> float:
    """Units rounded towards zero to whole lots; a size is never rounded up.

    Raises
    ------
    InvalidRequest
        A lot that is not positive.
    """
    _finite(units=units, lot=lot)
    if not lot > 0:
        raise InvalidRequest(f"a lot of {lot:g} units is none", "Give a positive number")
    return math.copysign(math.floor(abs(units) / lot + 1e-9) * lot, units) if abs(units) >= lot * (1 - 1e-9) else 0.0


def _finite(**values: float) -> None:
    for name, value in values.items():
        if not math.isfinite(value):
            raise InvalidRequest(f"{name.replace('_', ' ')} is {value!r}", "Give a finite number")
