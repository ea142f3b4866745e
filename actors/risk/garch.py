"""GARCH(1,1) margins (Bollerslev 1986) fitted by `arch`: what filtered simulation and dynamic correlation stand on.

r_t = mu + e_t,   e_t = sqrt(h_t) z_t,   h_t = omega + alpha e_{t-1}^2 + beta h_{t-1}
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

from cluster.errors import InvalidMarketData

MIN_DAYS = 100  # below which three variance parameters are guesses
CONVERGED = 0  # flag of the optimiser


@dataclass(frozen=True)
class Garch:
    """A fitted constant-mean GARCH(1,1), in units of the returns it was fitted to."""

    mu: float
    """Mean of a day, a fraction."""
    omega: float
    """Constant of the variance, in returns squared."""
    alpha: float
    """Weight of yesterday's squared shock."""
    beta: float
    """Weight of yesterday's variance."""
    log_likelihood: float
    """Log density of the returns, summed over days."""
    residuals: np.ndarray
    """Standardised shocks z, shape (n_observations,): about mean 0 and variance 1."""
    variances: np.ndarray
    """Conditional variances h of the days observed, shape (n_observations,), in returns squared."""
    next_variance: float
    """Variance forecast for the day after the last one."""
    converged: bool
    """Whether the optimiser says that it found the maximum; the figures are its last ones otherwise."""
    degrees: float | None
    """Degrees of freedom of Student-t shocks; None for normal ones."""


def fit_garch(returns: np.ndarray, distribution: Literal["normal", "t"] = "normal") -> Garch:
    """Maximum-likelihood GARCH(1,1) with a constant mean.

    With ``normal`` shocks this is quasi maximum likelihood: consistent for the variance whatever the true shocks are.

    Parameters
    ----------
    returns : ndarray of shape (n_observations,)
        Daily fractions.
    distribution : "normal" or "t"
        Law of the shocks; ``t`` is scaled to variance 1.

    Raises
    ------
    InvalidMarketData
        Fewer than ``MIN_DAYS`` returns, one that is not finite, a series that does not move, or one that cannot be
        fitted.
    """
    if returns.ndim != 1 or len(returns) < MIN_DAYS or not np.isfinite(returns).all():
        raise InvalidMarketData(
            f"a GARCH fit needs one series of {MIN_DAYS} finite returns, not {returns.shape}", "Give more history"
        )
    deviation = float(returns.std())
    if not deviation > 1e-12 * float(np.abs(returns).max()):  # what is left of a constant after rounding
        raise InvalidMarketData("a series does not move, so it has no GARCH", "Leave it out")
    # The optimiser wants variances near 1. A power of ten keeps the digits; it is 100 for daily returns.
    scale = 10.0 ** -round(math.log10(deviation))
    from arch import arch_model

    model = arch_model(returns * scale, mean="Constant", vol="GARCH", p=1, q=1, dist=distribution, rescale=False)
    try:
        fit = model.fit(disp="off", show_warning=False)
    except (ValueError, np.linalg.LinAlgError) as error:
        raise InvalidMarketData(f"the GARCH fit failed: {error}", "Look at the series, or leave it out") from error
    mu, omega, alpha, beta, *shape = (float(value) for value in fit.params)
    deviations = np.asarray(fit.conditional_volatility, dtype=float)
    shocks = np.asarray(fit.resid, dtype=float)
    if not (np.isfinite(shocks).all() and np.isfinite(deviations).all() and (deviations > 0).all()):
        raise InvalidMarketData("the GARCH fit has a variance that is not positive", "Look at the series")
    following = omega + alpha * shocks[-1] ** 2 + beta * deviations[-1] ** 2
    return Garch(
        mu=mu / scale,
        omega=omega / scale**2,
        alpha=alpha,
        beta=beta,
        log_likelihood=float(fit.loglikelihood) + len(returns) * math.log(scale),
        residuals=shocks / deviations,
        variances=(deviations / scale) ** 2,
        next_variance=float(following) / scale**2,
        converged=int(fit.convergence_flag) == CONVERGED,
        degrees=shape[0] if shape else None,
    )
