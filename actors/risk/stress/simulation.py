"""Simulated stress: resident scenarios by three laws of moves fitted to the window, and the book's tail on them."""

from __future__ import annotations

import math
import threading
from collections import OrderedDict

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import position_returns
from actors.risk.kernels import tail_rows_plain
from actors.risk.measures import empirical
from actors.risk.sampling import Gaussian, JumpDiffusion, Model, StudentT, fitted_degrees, uniforms
from cluster.errors import InvalidMarketData
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import Scenario

LAWS = {"mc_gaussian": "normal moves", "mc_student_t": "Student-t moves", "mc_jump_diffusion": "jump diffusion"}
JUMP_SIGMAS = 4.0  # robust standard deviations of the mean log return beyond which a day is taken as a jump
MAD_TO_SIGMA = 1.4826
FEWEST_JUMPS = 5  # days from which a jump has a mean and a deviation
KEPT_SETS = 6


class Simulations:
    """Scenarios of the whole universe of a snapshot, drawn when first asked for and kept."""

    def __init__(self, returns: np.ndarray, count: int) -> None:
        self._returns = returns
        self._count = count
        self._sets: OrderedDict[tuple[str, int, tuple[int, ...]], np.ndarray] = OrderedDict()
        self._lock = threading.Lock()

    def moves(self, law: str, seed: int, columns: np.ndarray) -> np.ndarray:
        """Moves of the columns, shape (count, n_columns).

        Raises
        ------
        InvalidMarketData
            The window is too short or still for the law.
        """
        key = (law, seed, tuple(columns.tolist()))
        with self._lock:
            if key in self._sets:
                self._sets.move_to_end(key)
                return self._sets[key]
        model = fit(law, self._returns[:, columns])
        drawn: np.ndarray = np.maximum(model.transform(uniforms("plain", self._count, model.inputs, seed)), -1.0)
        drawn.setflags(write=False)
        with self._lock:
            self._sets[key] = drawn
            while len(self._sets) > KEPT_SETS:
                self._sets.popitem(last=False)
        return drawn


def fit(law: str, returns: np.ndarray) -> Model:
    """The law of one day's moves, fitted to returns of shape (n_observations, n).

    Raises
    ------
    InvalidMarketData
        Too short a window, or no jumps in it.
    """
    if law == "mc_jump_diffusion":
        return fitted_jumps(returns)
    covariance, _ = ledoit_wolf(returns)
    mean = returns.mean(axis=0)
    degrees = fitted_degrees(returns - mean) if law == "mc_student_t" else math.inf
    return Gaussian(mean, covariance) if degrees == math.inf else StudentT(mean, covariance, degrees)


def fitted_jumps(returns: np.ndarray) -> JumpDiffusion:
    """Jump diffusion by threshold: days on which the mean log return leaves four robust deviations are jumps.

    Their share is the intensity; their log returns less the others' mean are the jumps, whose mean and standard
    deviation are taken symbol by symbol; the other days' shrunk covariance is the diffusion's.
    """
    if not (returns > -1).all():
        raise InvalidMarketData("a return of -100 % has no logarithm", "Leave the symbol out")
    logs = np.log1p(returns)
    market = logs.mean(axis=1)
    deviation = MAD_TO_SIGMA * float(np.median(np.abs(market - np.median(market))))
    jumped = np.abs(market - np.median(market)) > JUMP_SIGMAS * deviation
    if not deviation > 0 or jumped.sum() < FEWEST_JUMPS:
        raise InvalidMarketData(
            f"{int(jumped.sum())} days of the window look like jumps, fewer than the {FEWEST_JUMPS} that a jump's law "
            "takes",
            "Give more history",
        )
    calm = logs[~jumped]
    covariance, _ = ledoit_wolf(calm)
    sizes = logs[jumped] - calm.mean(axis=0)
    return JumpDiffusion(
        mean=calm.mean(axis=0),
        covariance=covariance,
        intensity=float(-np.log1p(-jumped.mean())),
        jump_mean=sizes.mean(axis=0),
        jump_deviation=sizes.std(axis=0, ddof=1),
    )


def simulated_scenarios(
    book: Book, law: str, moves: np.ndarray, confidences: tuple[float, ...]
) -> tuple[list[Scenario], list[Estimate]]:
    """The mean of the worst scenarios at every confidence and the worst of all; VaR and CVaR over the scenarios."""
    parts = -position_returns(book, moves) * book.weights
    losses = parts.sum(axis=1)
    scenarios: list[Scenario] = []
    estimates: list[Estimate] = []
    for confidence in confidences:
        var, cvar = empirical(
            losses, confidence, label=law, horizon_days=1, overlap=1, independent=f"scenarios, {LAWS[law]}"
        )
        estimates += [var, cvar]
        rows, shares = tail_rows_plain(losses, var.value, confidence)
        scenarios.append(
            Scenario(
                name=f"{LAWS[law]}: mean of the worst {1 - confidence:.2g} of days",
                kind="monte_carlo",
                loss=cvar,
                contributions=dict(zip(book.symbols, (shares @ parts[rows]).tolist(), strict=True)),
                note=f"{len(losses)} scenarios",
            )
        )
    worst = int(np.argmax(losses))
    scenarios.append(
        Scenario(
            name=f"{LAWS[law]}: worst of {len(losses)} days",
            kind="monte_carlo",
            loss=Estimate(
                measure="loss",
                value=float(losses[worst]),
                unit="fraction",
                method_label=law,
                convention="largest loss drawn: it grows with the number of scenarios",
                samples=len(losses),
                interval_method="none: one scenario, not an estimate",
            ),
            contributions=dict(zip(book.symbols, parts[worst].tolist(), strict=True)),
        )
    )
    return scenarios, estimates
