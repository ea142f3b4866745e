"""Stress scenarios: what named stretches of history, stated moves and factor shocks would cost the book; and the road
from a question to every kind of stress that this room knows.

Historical windows hold the weights constant, rebalanced daily, and compound from the close of the first date to the
close of the last. Factor shocks carry a move of the index or of one factor to the book by the slope of an ordinary
least-squares regression of the book's returns on that factor alone, so that a factor's usual companions move with it.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from actors.risk.exposures import daily_returns, moved_columns, position_returns
from actors.risk.measures import Z_INTERVAL, compounded
from actors.risk.stress.conditional import given
from actors.risk.stress.reverse import most_probable_move
from actors.risk.stress.sensitivity import factor_betas, sensitivities
from actors.risk.stress.settings import StressSettings
from actors.risk.stress.simulation import LAWS, Simulations, simulated_scenarios
from actors.risk.stress.tail_bounds import tail_bounds
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.market.snapshot import FactorPanel, MarketSnapshot
from hive.messages.calculation import Parameters, Role, Shock, methods_for
from hive.messages.dates import iso_date
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book
from hive.messages.reports import FactorSensitivity, ReverseStress, Scenario, Sensitivity, StressReport

# Peaks and troughs of the S&P 500 closing level around each episode.
HISTORICAL_WINDOWS = (
    ("Russian default and LTCM, 1998", "1998-07-17", "1998-08-31"),
    ("Dot-com bust, 2000-02", "2000-03-24", "2002-10-09"),
    ("Lehman and after, 2008", "2008-09-12", "2008-11-20"),
    ("Covid crash, 2020", "2020-02-19", "2020-03-23"),
    ("Rates bear market, 2022", "2022-01-03", "2022-10-12"),
)


@dataclass(frozen=True)
class Library:
    """Resident state: the snapshot's series that scenarios are made of."""

    columns: dict[str, int]
    base_date: np.datetime64
    dates: np.ndarray
    returns: np.ndarray
    index_name: str
    index_returns: np.ndarray | None
    factors: FactorPanel | None
    simulations: Simulations
    """Scenarios drawn when first asked for."""


def rebuild(snapshot: MarketSnapshot, settings: StressSettings) -> Library:
    """Lay out the snapshot's series; the arrays stay views of it."""
    return Library(
        columns={symbol: column for column, symbol in enumerate(snapshot.symbols)},
        base_date=np.datetime64(snapshot.base_date, "D"),
        dates=snapshot.dates,
        returns=snapshot.returns,
        index_name=snapshot.index_name,
        index_returns=snapshot.index_returns,
        factors=snapshot.factors,
        simulations=Simulations(snapshot.returns[-settings.window_days :], settings.simulated_scenarios),
    )


def run(
    state: Library, book: Book, parameters: Parameters, settings: StressSettings
) -> tuple[StressReport, tuple[str, ...]]:
    """Every scenario asked for, and warnings for those that could not be run.

    Raises
    ------
    InvalidRequest
        A shock or condition names a symbol that does not move the book.
    InvalidMarketData
        A return of the book is not finite.
    """
    methods = set(methods_for(Role.STRESS, parameters.methods, settings.methods))
    methods |= {"conditional"} if parameters.given else set()
    methods |= {"reverse"} if parameters.target_loss is not None else set()
    view = _View(state, book, settings)
    warnings: list[str] = []
    scenarios: list[Scenario] = []
    if "historical_window" in methods:
        windows = HISTORICAL_WINDOWS + tuple((f"{start} to {end}", start, end) for start, end in parameters.windows)
        scenarios += [historical_window(state, book, view.columns, *window) for window in windows]
    if "hypothetical" in methods:
        shocks = tuple(Shock(f"all positions {move:+.0%}", {"*": move}) for move in settings.market_moves)
        scenarios += [hypothetical(book, shock) for shock in shocks + parameters.shocks]
    if "factor" in methods:
        scenarios += factor_shocks(state, book, view.columns, settings)
    estimates: list[Estimate] = []
    for law in (law for law in LAWS if law in methods):
        with _warned(law, warnings):
            moves = state.simulations.moves(law, parameters.seed, view.columns)
            found, over = simulated_scenarios(book, law, moves, parameters.confidences)
            scenarios, estimates = scenarios + found, estimates + over
    if "conditional" in methods:
        for shock in parameters.given:
            with _warned(f"conditional {shock.name}", warnings):
                count = settings.simulated_scenarios
                scenarios += given(book, view.names, view.recent, shock, samples=count, seed=parameters.seed)
        if not parameters.given:
            warnings.append("conditional: no condition is stated; give some, such as `--given fall:AAPL=-0.1`")
    reverse = _reverse(view, parameters, settings, scenarios, warnings) if "reverse" in methods else None
    if "tail_bound" in methods:
        with _warned("tail_bound", warnings):
            losses = -daily_returns(book, state.columns, state.returns)
            resampling = {"resamples": settings.resamples, "block_days": settings.block_days, "seed": parameters.seed}
            scenarios += tail_bounds(losses, **resampling)
    found_sensitivities: tuple[Sensitivity, ...] = ()
    betas: tuple[FactorSensitivity, ...] = ()
    if "sensitivity" in methods:
        with _warned("sensitivity", warnings):
            returns = position_returns(book, view.recent)
            options = {"bump": settings.bump, "orders": settings.orders, "seed": parameters.seed}
            found_sensitivities = sensitivities(book, len(view.names), returns, **options)  # type: ignore[arg-type]
        with _warned("factor sensitivities", warnings):
            betas = _betas(state, book)
    report = StressReport(
        scenarios=tuple(scenarios),
        simulated=tuple(estimates),
        reverse=reverse,
        sensitivities=found_sensitivities,
        factor_sensitivities=betas,
    )
    missing = [f"{s.name}: {s.note}" for s in scenarios if s.loss is None]
    return report, (*missing, *warnings)


class _View:
    """What moves the book, and how it has moved lately."""

    def __init__(self, state: Library, book: Book, settings: StressSettings) -> None:
        self.book = book
        self.columns = moved_columns(book, state.columns)
        self.names = (*book.symbols, *dict.fromkeys(rate for rate in book.exchange if rate))
        self.recent = state.returns[-settings.window_days :][:, self.columns]
        self.dates = state.dates[-settings.window_days :]


@contextlib.contextmanager
def _warned(what: str, warnings: list[str]) -> Iterator[None]:
    """A part that this market or book does not allow is left out with a warning; the others still answer."""
    try:
        yield
    except InvalidMarketData as error:
        warnings.append(f"{what}: {error}")


def _reverse(
    view: _View, parameters: Parameters, settings: StressSettings, scenarios: list[Scenario], warnings: list[str]
) -> ReverseStress | None:
    """The reverse stress test, and its loss as a scenario; a target out of reach becomes a scenario not run."""
    target = parameters.target_loss if parameters.target_loss is not None else settings.target_loss
    name = f"reverse: the likeliest loss of {target:.0%}"
    try:
        with _warned("reverse", warnings):
            found = most_probable_move(
                view.book,
                view.names,
                view.recent,
                view.dates,
                target,
                starts=settings.reverse_starts,
                seed=parameters.seed,
            )
            label = f"{found.distance:.1f} standard deviations away"
            loss = _stated(sum(found.contributions.values()), "reverse", 0, "the target is stated")
            scenarios.append(Scenario(name, "reverse", loss, found.contributions, label, moves=found.moves))
            return found
    except InvalidRequest as error:
        scenarios.append(Scenario(name=name, kind="reverse", loss=None, contributions={}, note=str(error)))
    return None


def _betas(state: Library, book: Book) -> tuple[FactorSensitivity, ...]:
    if state.factors is None:
        return ()
    _, ours, theirs = np.intersect1d(state.dates, state.factors.dates, assume_unique=True, return_indices=True)
    returns = daily_returns(book, state.columns, state.returns[ours])
    return factor_betas(state.factors.names, state.factors.returns[theirs], returns)


def historical_window(state: Library, book: Book, columns: np.ndarray, name: str, start: str, end: str) -> Scenario:
    """Loss from the close of ``start`` to the close of ``end``, split exactly over the positions.

    Position i contributes the sum over days of V(t-1) w_i r_i(t), where V is the book's value at the previous close.
    """
    first, last = iso_date(start), iso_date(end)
    if first < state.base_date or last > state.dates[-1]:
        note = f"outside the snapshot, which covers {state.base_date} to {state.dates[-1]}"
        return Scenario(name=name, kind="historical", loss=None, contributions={}, note=note)
    inside = slice(*np.searchsorted(state.dates, [first, last], side="right").tolist())
    raw = state.returns[inside][:, columns]
    if len(raw) == 0:
        return Scenario(name=name, kind="historical", loss=None, contributions={}, note="holds no trading day")
    moves = position_returns(book, raw)
    value = compounded(1.0 + moves @ book.weights)
    before = np.maximum(np.concatenate(([1.0], value[:-1])), 0.0)  # a book that is ruined trades no more
    losses = -(before @ moves) * book.weights
    benchmark = None
    if state.index_returns is not None:
        benchmark = float(1.0 - np.prod(1.0 + state.index_returns[inside]))
    return Scenario(
        name=name,
        kind="historical",
        loss=_stated(float(1.0 - value[-1]), "historical_window", len(moves), "realised, not estimated"),
        contributions=_by_symbol(book, losses),
        note=f"{start} to {end}",
        benchmark_loss=benchmark,
        mean_correlation=_window_correlation(raw[:, : len(book.symbols)]),
    )


def hypothetical(book: Book, shock: Shock) -> Scenario:
    """Loss when every named symbol makes its stated move at once."""
    rates = tuple(dict.fromkeys(rate for rate in book.exchange if rate))
    strangers = sorted(set(shock.moves) - {"*"} - set(book.symbols) - set(rates))
    if strangers:
        raise InvalidRequest(
            f"shock {shock.name!r} moves {strangers[0]}, which the book does not hold", "Name symbols of the portfolio"
        )
    moves = [shock.moves.get(symbol, shock.moves.get("*", 0.0)) for symbol in book.symbols]
    for rate, power in zip(book.exchange, book.exchange_powers.tolist(), strict=True):
        if rate and power < 0 and shock.moves.get(rate, 0.0) <= -1:
            raise InvalidRequest(
                f"shock {shock.name!r} takes {rate} to zero, and positions are divided by it", "Give a smaller fall"
            )
    moves += [shock.moves.get(rate, 0.0) for rate in rates]  # a move of all positions is none of exchange rates
    losses = -position_returns(book, np.array([moves]))[0] * book.weights
    return Scenario(
        name=shock.name,
        kind="hypothetical",
        loss=_stated(float(losses.sum()), "hypothetical", 0, "stated, not estimated"),
        contributions=_by_symbol(book, losses),
    )


def factor_shocks(state: Library, book: Book, columns: np.ndarray, settings: StressSettings) -> list[Scenario]:
    """Moves of the index and of each factor, carried to the book by its beta."""
    scenarios = []
    if state.index_returns is not None:
        for move in settings.index_moves:
            name = f"{state.index_name} {move:+.0%}"
            moves = position_returns(book, state.returns[:, columns])
            scenarios.append(_regression_shock(name, book, moves, state.index_returns, move, settings))
    if state.factors is not None:
        _, ours, theirs = np.intersect1d(state.dates, state.factors.dates, assume_unique=True, return_indices=True)
        moves = position_returns(book, state.returns[ours][:, columns])
        for number, factor in enumerate(state.factors.names):
            name = f"factor {factor} {settings.factor_move:+.0%}"
            series = state.factors.returns[theirs, number]
            scenarios.append(_regression_shock(name, book, moves, series, settings.factor_move, settings))
    return scenarios


def _regression_shock(
    name: str, book: Book, moves: np.ndarray, factor: np.ndarray, move: float, settings: StressSettings
) -> Scenario:
    """Loss = -beta x move, with the interval of beta by White's heteroscedasticity-robust variance (HC0)."""
    n = len(factor)
    if n < settings.min_regression_days:
        note = f"{n} common days are fewer than the {settings.min_regression_days} a beta needs"
        return Scenario(name=name, kind="factor", loss=None, contributions={}, note=note)
    centred = factor - factor.mean()
    square = float(centred @ centred)
    if np.ptp(factor) == 0:
        return Scenario(name=name, kind="factor", loss=None, contributions={}, note="the factor does not move")
    betas = (centred @ moves) / square
    beta = float(betas @ book.weights)
    returns = moves @ book.weights
    residual = returns - returns.mean() - beta * centred
    error = math.sqrt(float((centred**2) @ (residual**2))) / square
    variance = float(((returns - returns.mean()) ** 2).sum())
    explained = 1.0 - float(residual @ residual) / variance if variance > 0 else 0.0
    half = Z_INTERVAL * error * abs(move)
    loss = -beta * move
    return Scenario(
        name=name,
        kind="factor",
        loss=Estimate(
            measure="loss",
            value=loss,
            unit="fraction",
            method_label="factor_ols",
            convention="expected loss given the factor's move; what the factor does not explain is left out",
            samples=n,
            lower=loss - half,
            upper=loss + half,
            interval_method="normal, HC0 standard error of beta",
        ),
        contributions=_by_symbol(book, -betas * book.weights * move),
        note=f"beta {beta:.2f}, R2 {explained:.0%}",
    )


def _window_correlation(moves: np.ndarray) -> float | None:
    """Mean pair correlation inside a window; None for one symbol, few days, or a symbol that does not move."""
    if moves.shape[1] < 2 or len(moves) < 3 or not (np.ptp(moves, axis=0) > 0).all():
        return None
    correlation = np.corrcoef(moves.T)
    n = len(correlation)
    return float((correlation.sum() - n) / (n * (n - 1)))


def _stated(loss: float, method_label: str, samples: int, why: str) -> Estimate:
    return Estimate(
        measure="loss",
        value=loss,
        unit="fraction",
        method_label=method_label,
        convention="constant weights",
        samples=samples,
        interval_method=f"none: {why}",
    )


def _by_symbol(book: Book, losses: np.ndarray) -> dict[str, float]:
    return dict(zip(book.symbols, losses.tolist(), strict=True))
