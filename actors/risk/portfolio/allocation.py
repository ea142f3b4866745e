"""Allocations for the symbols of a book: what it is, what it could be, and whether going there is worth it.

Without a mandate that allows otherwise, a proposal keeps the sign of every position and the book's gross exposure.
Covariances are shrunk (Ledoit-Wolf) and daily; positions of zero weight take part where the mandate names them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np

from actors.risk.covariance import ledoit_wolf
from actors.risk.exposures import daily_returns, moved_columns, position_returns
from actors.risk.measures import Z_INTERVAL, historical, volatility
from actors.risk.portfolio import convex, discrete, kernels, lots
from actors.risk.portfolio.constraints import (
    TRADING_DAYS,
    Constraints,
    constraints_of,
    measured,
    refuse_infeasible,
    taking_part,
)
from actors.risk.portfolio.rebalance import Costs, costs_of, plan
from actors.risk.portfolio.settings import PortfolioSettings
from actors.risk.portfolio.sizing import kelly_continuous, volatility_target
from cluster.errors import InvalidMarketData, InvalidPortfolio, InvalidRequest, SwarmError
from hive.market.snapshot import MarketSnapshot
from hive.messages.calculation import Parameters, Role, methods_for
from hive.messages.estimate import Estimate
from hive.messages.mandate import Mandate
from hive.messages.portfolio import Book
from hive.messages.reports import (
    Allocation,
    ConstraintUse,
    DiscreteChoice,
    ParetoPoint,
    PortfolioReport,
    RebalanceAdvice,
    SizingAdvice,
)
from hive.messages.reports.portfolio import WholeLots

NAMES = {
    "risk_parity": "risk-balanced",
    "minimum_variance": "minimum variance",
    "mean_variance": "mean-variance",
    "minimum_cvar": "minimum CVaR",
    "maximum_diversification": "maximum diversification",
    "hrp": "hierarchical risk parity",
    "black_litterman": "Black-Litterman",
}
LAST_RESORT = "inverse_volatility"
LEVERAGE_CAP = 2.0  # largest multiple of the present book that a sizing rule advises


class NotConverged(SwarmError):
    """An iterative solver did not reach its tolerance."""


@dataclass(frozen=True)
class Window:
    """Resident state: the whole history, and the covariance of every symbol of the snapshot."""

    columns: dict[str, int]
    returns: np.ndarray
    recent: np.ndarray


def rebuild(snapshot: MarketSnapshot, settings: PortfolioSettings) -> Window:
    """Cut the covariance window; the arrays stay views of the snapshot."""
    return Window(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        returns=snapshot.returns,
        recent=snapshot.returns[-settings.covariance_days :],
    )


def propose(
    state: Window, book: Book, parameters: Parameters, settings: PortfolioSettings
) -> tuple[PortfolioReport, tuple[str, ...], tuple[str, ...]]:
    """The book's own risk and the proposals, front, rebalance, sizes and discrete choices that are asked for.

    Returns
    -------
    report, warnings, fallbacks

    Raises
    ------
    InvalidPortfolio
        Every weight of the book is zero, or the mandate cannot be obeyed.
    InvalidMarketData
        A position did not move in the covariance window.
    """
    room = _Room(state, book, parameters, settings)
    methods = methods_for(Role.PORTFOLIO, parameters.methods, settings.methods)
    asked = [method for method in methods if method in NAMES]
    for method in asked or (["mean_variance"] if "rebalance" in methods else []):  # an advice needs an aim
        room.add(method)
    room.round_to_lots()
    report = PortfolioReport(
        symbols=book.symbols,
        current=room.allocation("current", "as_given", book.weights),
        proposals=tuple(room.proposals),
        front=room.front() if "pareto_front" in methods else (),
        rebalance=room.rebalance() if "rebalance" in methods else None,
        sizing=room.sizing() if "sizing" in methods else (),
        discrete=room.discrete(methods),
    )
    if len(state.recent) < settings.covariance_days:
        room.warnings.append(f"the covariance rests on {len(state.recent)} of {settings.covariance_days} days")
    if (book.weights < 0).any() and not room.mandated:
        room.warnings.append("the book holds shorts: the proposals keep signs and gross exposure, not net exposure")
    return report, tuple(room.warnings), tuple(room.fallbacks)


class _Room:
    """One question on its way to its answer."""

    def __init__(self, state: Window, book: Book, parameters: Parameters, settings: PortfolioSettings) -> None:
        self.state, self.book, self.parameters, self.settings = state, book, parameters, settings
        self.warnings: list[str] = []
        self.fallbacks: list[str] = []
        self.proposals: list[Allocation] = []
        if not book.weights.any():
            raise InvalidPortfolio("every weight of the book is zero", "Hold at least one position")
        self.held = taking_part(book)
        self.mandated = book.mandate is not None and book.mandate != Mandate()
        recent = position_returns(book, state.recent[:, moved_columns(book, state.columns)])
        if len(recent) < 2:
            raise InvalidMarketData("one day has no covariance", "Give more history")
        self.moves = recent[:, self.held]
        self.covariance, _ = ledoit_wolf(self.moves)
        still = [
            book.symbols[place]
            for place, variance in zip(self.held, np.diag(self.covariance), strict=True)
            if not variance > 0
        ]
        if still:
            raise InvalidMarketData(f"{', '.join(still)} did not move in the covariance window", "Leave it out")
        self.constraints: Constraints = constraints_of(book, self.held)
        self.annual = self.moves.mean(axis=0) * TRADING_DAYS
        if self.mandated:
            if not self.constraints.total > 0:
                raise InvalidPortfolio(
                    f"the weights of {book.name!r} sum to {self.constraints.total:.3g}, and a mandate that lets them "
                    "change sign needs a positive sum",
                    "Bound weights on one side of zero, or hold a net long book",
                )
            refuse_infeasible(self.constraints, self.annual)
        self.costs: Costs = costs_of(
            book.spreads[self.held],
            book.volumes[self.held],
            book.unit_exposures[self.held],
            np.sqrt(np.diag(self.covariance)),
            book.value,
            default_half_spread=settings.default_half_spread,
            coefficient=settings.impact_coefficient,
        )

    def add(self, method: str) -> None:
        """Propose by one method; a solver that fails falls back, and what disobeys the mandate is not proposed."""
        if method == "black_litterman" and not (self.book.mandate and self.book.mandate.views):
            self.warnings.append("black_litterman: the portfolio states no views; give `mandate.views`")
            return
        for label, solver in self._solvers(method):
            try:
                unknowns = solver()
            except (SwarmError, ValueError, np.linalg.LinAlgError) as error:
                self.fallbacks.append(f"{method}: {error}")
                continue
            uses = self.uses(unknowns)
            broken = [use.name for use in uses if not use.met]
            if broken:
                self.warnings.append(f"{method}: its answer by {label} does not obey {', '.join(broken)}; not proposed")
                continue
            weights = self.whole(self.constraints.signs * unknowns)
            name = f"inverse volatility (instead of {NAMES[method]})" if label == LAST_RESORT else NAMES[method]
            self.proposals.append(replace(self.allocation(name, label, weights), constraints=uses))
            return

    def round_to_lots(self) -> None:
        """Give every proposal in whole lots, too, where positions state lots; what stands in the way is warned of."""
        stated = self.proposals and np.isfinite(self.book.lots[self.held]).any()
        if not stated:
            return
        if self.book.value is None:
            self.warnings.append("whole lots: the book states lots and no value; give `value`")
            return
        sizes, notes = lots.weights_of_lots(self.book, self.held)
        self.warnings += notes
        if np.isnan(sizes).all():
            return
        rounded = []
        for proposal in self.proposals:
            aim = self.constraints.signs * proposal.weights[self.held]
            found = lots.nearest(aim, self.constraints, sizes, self.annual, mandated=self.mandated)
            if found is None:
                self.warnings.append(f"whole lots: none near {proposal.name} obey the mandate")
            rounded.append(proposal if found is None else replace(proposal, lots=self._in_lots(proposal, found, sizes)))
        self.proposals = rounded

    def _in_lots(self, proposal: Allocation, found: lots.Nearest, sizes: np.ndarray) -> WholeLots:
        weights = self.whole(self.constraints.signs * found.unknowns)
        change = weights - proposal.weights
        units = {
            self.book.symbols[place]: float(count * self.book.lots[place])
            for place, count, size in zip(self.held, self.constraints.signs * found.counts, sizes, strict=True)
            if math.isfinite(size)
        }
        return WholeLots(
            method_label=found.method_label,
            units=units,
            weights=weights,
            cash=max(0.0, -float(change.sum())) * (self.book.value or 0.0),
            distance=float(np.abs(change).sum()) / 2,
            proved=found.proved,
            constraints=found.uses,
        )

    def uses(self, unknowns: np.ndarray) -> tuple[ConstraintUse, ...]:
        """Every constraint of the mandate, measured; none without a mandate."""
        return measured(self.constraints, unknowns, self.annual) if self.mandated else ()

    def whole(self, weights: np.ndarray) -> np.ndarray:
        """Weights of all positions from those held."""
        every = np.zeros(len(self.book.weights))
        every[self.held] = weights
        return every

    def allocation(self, name: str, label: str, weights: np.ndarray) -> Allocation:
        """Weights with their risk on the whole history."""
        daily = daily_returns(replace(self.book, weights=weights), self.state.columns, self.state.returns)
        tails = [e for c in self.parameters.confidences for e in historical(daily, c, self.parameters.horizon_days)]
        trades = (weights - self.book.weights)[self.held]
        recent = self.moves @ weights[self.held]
        risk = np.zeros(len(weights))
        risk[self.held] = risk_contributions(self.covariance, weights[self.held])
        return Allocation(
            name=name,
            method_label=label,
            weights=weights,
            risk_contributions=risk,
            turnover=float(np.abs(weights - self.book.weights).sum() / 2),
            estimates=(volatility(daily), *tails),
            cost=self.costs.of(trades) if np.abs(trades).max() > 0 else None,
            annual=(float(recent.mean()) * TRADING_DAYS, float(recent.std(ddof=1)) * math.sqrt(TRADING_DAYS)),
        )

    def _solvers(self, method: str) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
        """(label, solver) from the exact compiled one, where the constraints allow it, to the last resort."""
        signs = self.constraints.signs
        signed = np.ascontiguousarray(self.covariance * np.outer(signs, signs))
        if method == "risk_parity" and (not self.mandated or self.constraints.plain):
            # No convex solver behind it: theirs stop orders of magnitude short of the tolerance that is promised.
            yield method, lambda: risk_parity(signed, self.settings, self._budgets()) * self.constraints.total
        else:
            yield from self._programs(method, signed)
        yield LAST_RESORT, lambda: inverse_volatility(self.covariance) * self.constraints.total

    def _programs(self, method: str, signed: np.ndarray) -> Iterator[tuple[str, Callable[[], np.ndarray]]]:
        signs, aversion = self.constraints.signs, self.settings.risk_aversion
        if method in ("minimum_variance", "mean_variance") and not _beyond_boxes(self.constraints):
            rewards = signs * self.annual / TRADING_DAYS if method == "mean_variance" else np.zeros(len(signs))
            quadratic = signed * aversion if method == "mean_variance" else signed
            yield method, lambda: self._exact(quadratic, rewards)
        yield method, lambda: self._convex(method)

    def _exact(self, quadratic: np.ndarray, rewards: np.ndarray) -> np.ndarray:
        """Least w'Sw / 2 - r'w within the bounds, of few positions where their number is limited."""
        if self.constraints.max_positions is None:
            solver = kernels.BoxMinimumVariance(self.constraints.lower, self.constraints.upper, self.constraints.total)
            return solver.solve(quadratic, rewards).copy()
        found = discrete.best_support(quadratic, self.constraints, rewards)
        if found is None:
            raise NotConverged("branch and bound ended without a proof", "Bound fewer positions away from zero")
        return found

    def _convex(self, method: str) -> np.ndarray:
        found, failed = convex.solve(
            method,
            self.moves * self.constraints.signs,
            self.constraints,
            risk_aversion=self.settings.risk_aversion,
            confidence=self.parameters.confidences[0],
            budgets=self._budgets(),
            views=self.book.mandate.views if self.book.mandate else (),
        )
        self.fallbacks += [f"{method}: {attempt}" for attempt in failed]
        if self.constraints.max_positions is not None and method != "hrp":
            self.warnings.append(
                f"{method}: its positions are chosen from the answer without the limit on their number, and are not "
                "proved to be the best choice"
            )
        return found

    def _budgets(self) -> np.ndarray | None:
        stated = self.book.mandate.risk_budgets if self.book.mandate else None
        if stated is None:
            return None
        return np.array([stated.get(symbol, 0.0) for symbol in self.constraints.symbols])

    def front(self) -> tuple[ParetoPoint, ...]:
        """Efficient portfolios in rising return, dominated ones left out."""
        try:
            found = convex.front(self.moves * self.constraints.signs, self.constraints, self.settings.front_points)
        except SwarmError as error:
            self.warnings.append(f"pareto_front: {error}")
            return ()
        points = []
        n = len(self.moves)
        for unknowns in found:
            if self.mandated and not all(use.met for use in measured(self.constraints, unknowns, self.annual)):
                continue
            daily = self.moves @ (self.constraints.signs * unknowns)
            mean, deviation = float(daily.mean()) * TRADING_DAYS, float(daily.std(ddof=1)) * math.sqrt(TRADING_DAYS)
            points.append((mean, deviation, unknowns))
        points.sort(key=lambda point: point[1])
        efficient: list[ParetoPoint] = []
        highest = -math.inf
        for mean, deviation, unknowns in points:
            if mean <= highest:
                continue
            highest = mean
            efficient.append(
                ParetoPoint(
                    weights=self.whole(self.constraints.signs * unknowns),
                    annual_return=_annual("annual_return", mean, deviation * math.sqrt(TRADING_DAYS / n), n),
                    annual_volatility=_annual("annual_volatility", deviation, deviation / math.sqrt(2 * n), n),
                )
            )
        return tuple(efficient)

    def rebalance(self) -> RebalanceAdvice | None:
        """Advice on going towards the proposal of most utility."""
        if not self.proposals:
            self.warnings.append("rebalance: there is no proposal to go towards")
            return None
        covariance = self.covariance * TRADING_DAYS
        settings = self.settings

        def utility(allocation: Allocation) -> float:
            w = allocation.weights[self.held]
            return float(self.annual @ w - settings.risk_aversion / 2 * w @ covariance @ w)

        def obeys(weights: np.ndarray) -> bool:
            return all(use.met for use in self.uses(self.constraints.signs * weights))

        aim = max(self.proposals, key=utility)
        planned = partial(
            plan,
            self.book.weights[self.held],
            aim.weights[self.held],
            self.annual,
            covariance,
            self.costs,
            aversion=settings.risk_aversion,
            holding_days=settings.holding_days,
            band=settings.no_trade_band,
        )
        free, advice = planned(), planned(obeys=obeys)
        if advice != free:
            what = f"{free.share:.0%} of the way" if free.trade else "the book as it is"
            verdict = "the whole way is advised" if advice.trade else "the whole way is not worth its cost"
            self.warnings.append(f"rebalance: {what} would break the mandate; {verdict}")
        way = aim.weights - self.book.weights
        return RebalanceAdvice(
            towards=aim.name,
            trade=advice.trade,
            share=advice.share,
            weights=self.book.weights + advice.share * way,
            gain=advice.gain,
            cost=advice.cost,
            hurdle=settings.no_trade_band,
            note="expected returns are the window's means, and those are noisy: see the front's intervals",
        )

    def sizing(self) -> tuple[SizingAdvice, ...]:
        """Multiples of the present book by Kelly and by a volatility target."""
        daily = self.moves @ self.book.weights[self.held]
        n, mean = len(daily), float(daily.mean()) * TRADING_DAYS
        deviation = float(daily.std(ddof=1)) * math.sqrt(TRADING_DAYS)
        error = deviation * math.sqrt(TRADING_DAYS / n)
        if not deviation > 0:
            self.warnings.append("sizing: the book does not move, so no rule has a size for it")
            return ()

        def kelly(expected: float) -> float:
            return min(LEVERAGE_CAP, kelly_continuous(expected, deviation, fraction=self.settings.kelly_fraction))

        spread = Z_INTERVAL / math.sqrt(2 * n)
        target = self.settings.target_volatility
        return (
            SizingAdvice(
                rule=f"Kelly, {self.settings.kelly_fraction:g} of it",
                multiple=kelly(mean),
                lower=kelly(mean - Z_INTERVAL * error),
                upper=kelly(mean + Z_INTERVAL * error),
                note=f"mean over variance of {n} days, at most {LEVERAGE_CAP:g}; the interval is that of the mean",
            ),
            SizingAdvice(
                rule=f"volatility target {target:.0%} a year",
                multiple=volatility_target(deviation, target, cap=LEVERAGE_CAP),
                lower=volatility_target(deviation * (1 + spread), target, cap=LEVERAGE_CAP),
                upper=volatility_target(deviation * (1 - spread), target, cap=LEVERAGE_CAP),
                note=f"volatility of {n} days, at most {LEVERAGE_CAP:g}",
            ),
        )

    def discrete(self, methods: tuple[str, ...]) -> tuple[DiscreteChoice, ...]:
        """Choices of equal positions by annealing and by the simulated circuit, beside the exact one."""
        asked = [method for method in methods if method in discrete.METHODS]
        signs = self.constraints.signs
        signed, rewards = self.covariance * np.outer(signs, signs) * TRADING_DAYS, signs * self.annual
        found = []
        for method in asked:
            try:
                found.append(
                    discrete.choose(method, self.constraints, signed, rewards, self.settings, seed=self.parameters.seed)
                )
            except (InvalidRequest, InvalidMarketData) as error:
                self.warnings.append(f"{method}: {error}")
        return tuple(found)


def _beyond_boxes(constraints: Constraints) -> bool:
    """Whether there is more than bounds of single weights, their sum and their number."""
    limits = (constraints.max_turnover, constraints.max_gross, constraints.target_return)
    return bool(constraints.groups) or any(limit is not None for limit in limits)


def _annual(measure: str, value: float, error: float, samples: int) -> Estimate:
    return Estimate(
        measure=measure,
        value=value,
        unit="fraction",
        method_label="pareto_front",
        convention="252 times the daily mean" if measure == "annual_return" else "sqrt(252) daily standard deviations",
        samples=samples,
        lower=value - Z_INTERVAL * error,
        upper=value + Z_INTERVAL * error,
        interval_method="asymptotic normal, independent days; the weights are taken as given",
    )


def risk_contributions(covariance: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Share of the variance by position, w_i (S w)_i / w'S w, shape (n,); zeros for a book without variance."""
    marginal = covariance @ weights
    variance = float(weights @ marginal)
    return weights * marginal / variance if variance > 0 else np.zeros(len(weights))


def risk_parity(covariance: np.ndarray, settings: PortfolioSettings, budgets: np.ndarray | None = None) -> np.ndarray:
    """Positive weights, summing to 1, whose risk contributions are equal, or as ``budgets``, shape (n,), say.

    Compiled coordinate descent (:func:`actors.risk.portfolio.kernels.risk_budgets`) on a strictly convex problem: the
    solution exists and is the only one where the covariance is positive definite.

    Raises
    ------
    NotConverged
        The contributions are not within ``contribution_tolerance`` of their budgets after ``max_sweeps`` sweeps.
    """
    shares = np.full(len(covariance), 1.0 / len(covariance)) if budgets is None else np.array(budgets, dtype=float)
    weights = 1.0 / np.sqrt(np.diag(covariance))
    matrix = np.ascontiguousarray(covariance, dtype=float)
    sweeps = kernels.risk_budgets(matrix, shares, weights, settings.contribution_tolerance, settings.max_sweeps)
    if sweeps < 0:
        raise NotConverged(
            f"contributions are not within {settings.contribution_tolerance:g} of their budgets after "
            f"{settings.max_sweeps} sweeps",
            "Raise portfolio.max_sweeps",
        )
    return weights


def minimum_variance(covariance: np.ndarray) -> np.ndarray:
    """Non-negative weights, summing to 1, of least variance: exact, by active sets.

    Raises
    ------
    ValueError
        The covariance is not positive definite.
    """
    n = len(covariance)
    matrix = np.ascontiguousarray(covariance, dtype=float)
    return kernels.BoxMinimumVariance(np.zeros(n), np.ones(n)).solve(matrix)


def inverse_volatility(covariance: np.ndarray) -> np.ndarray:
    """Weights in proportion to 1 / volatility, summing to 1: risk parity where all correlations are equal."""
    weights = 1.0 / np.sqrt(np.diag(covariance))
    return np.asarray(weights / weights.sum())
