"""Rolling one-day-ahead backtests: what each method would have said at every close, and whether it was right.

The forecast for a day is made from the ``window_days`` before it and nothing else. Methods with a fit are fitted every
``refit_days``, on the window that ends that day; between fits the parameters are held, and a GARCH filter goes on
filtering the days as they come.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from itertools import combinations

import numpy as np

from actors.risk.exposures import daily_returns
from actors.risk.measures import NORMAL
from actors.risk.value_at_risk import coverage, kernels
from actors.risk.value_at_risk.empirical import age_weights
from actors.risk.value_at_risk.filtered import MIN_DAYS, filter_of
from actors.risk.value_at_risk.parametric import expansion, fit_student_t, t_tail
from actors.risk.value_at_risk.peaks import MIN_PEAKS, fit_pareto
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster.errors import InvalidMarketData, InvalidRequest
from hive.market.snapshot import MarketSnapshot
from hive.messages.portfolio import Book
from hive.messages.reports import BacktestResult, ModelBacktest, ModelComparison

MIN_WINDOW = 30  # days below which no forecast is worth testing
CHUNK = 4_000_000  # values of sliding windows worked on at a time

Progress = Callable[[int, int], None]
Tick = Callable[[int], None]
Forecast = tuple[np.ndarray, list[tuple[int, str]]]
"""(VaR and CVaR by tested day, shape (n_tested, 2); refits that failed: tested day and reason)."""


def backtest(
    snapshot: MarketSnapshot,
    book: Book,
    *,
    methods: tuple[str, ...] = ("historical", "gaussian"),
    confidence: float = 0.99,
    window_days: int = 500,
    refit_days: int = 20,
    seed: int = 0,
    settings: ValueAtRiskSettings | None = None,
    progress: Progress | None = None,
) -> BacktestResult:
    """Forecast every day of the snapshot after the first window, test the forecasts and compare the methods.

    A pure function of its arguments. A method that cannot forecast on this data is left out with a warning.

    Parameters
    ----------
    progress : callable, optional
        Called with (days forecast, days to forecast) over all methods.

    Raises
    ------
    InvalidRequest
        A method is unknown or named twice, the confidence is a tail or out of range, or a number of days is too small.
    InvalidMarketData
        The snapshot holds no day after the first window, the book's returns are not finite, or no method can forecast.
    """
    _check(methods, confidence, window_days, refit_days)
    columns = {symbol: column for column, symbol in enumerate(snapshot.symbols)}
    daily = np.array(daily_returns(book, columns, snapshot.returns), dtype=float)
    tested = len(daily) - window_days
    if tested < 2:
        raise InvalidMarketData(
            f"{len(daily)} days of history leave none to test after a window of {window_days}", "Shorten the window"
        )
    rules = settings or ValueAtRiskSettings()
    models, warnings = [], []
    done = 0

    def tick(days: int) -> None:
        if progress is not None:
            progress(done + days, tested * len(methods))

    for method in methods:
        tick(0)
        try:
            forecast, failures = FORECASTS[method](daily, window_days, refit_days, confidence, rules, tick)
        except InvalidMarketData as error:
            warnings.append(f"{method}: {error}")
        else:
            notes = [f"{snapshot.dates[window_days + day]}: {reason}" for day, reason in failures]
            models.append(_judged(method, forecast, notes, -daily[window_days:], confidence, seed))
        done += tested
        tick(0)
    if not models:
        raise InvalidMarketData("no method can forecast: " + "; ".join(warnings), "Give more history or other methods")
    return BacktestResult(
        portfolio=book.name,
        snapshot_id=snapshot.content_id,
        confidence=confidence,
        window_days=window_days,
        refit_days=refit_days,
        seed=seed,
        dates=tuple(str(day) for day in snapshot.dates[window_days:]),
        returns=daily[window_days:],
        models=tuple(models),
        comparisons=_compared(models, -daily[window_days:], confidence),
        warnings=tuple(warnings),
    )


def _check(methods: tuple[str, ...], confidence: float, window_days: int, refit_days: int) -> None:
    unknown = [method for method in methods if method not in METHODS]
    if unknown or not methods or len(set(methods)) < len(methods):
        raise InvalidRequest(
            f"methods {', '.join(methods) or 'none'} cannot be backtested",
            f"Give some of {', '.join(METHODS)}, once each",
        )
    if not 0.5 < confidence < 1:
        tail = 0 < confidence <= 0.5
        raise InvalidRequest(
            f"confidence {confidence:g} is out of range",
            f"That is a tail probability; its confidence is {1 - confidence:g}" if tail else "Give one such as 0.99",
        )
    if window_days < MIN_WINDOW:
        raise InvalidRequest(f"a window of {window_days} days is too short", f"Give at least {MIN_WINDOW}")
    if refit_days < 1:
        raise InvalidRequest(f"a refit every {refit_days} days is none", "Give at least 1")


def _judged(
    method: str, forecast: np.ndarray, failures: list[str], losses: np.ndarray, confidence: float, seed: int
) -> ModelBacktest:
    var, cvar = np.ascontiguousarray(forecast[:, 0]), np.ascontiguousarray(forecast[:, 1])
    exceptions = losses > var
    joint = coverage.fissler_ziegel(losses, var, cvar, confidence)
    return ModelBacktest(
        method_label=method,
        var=var,
        cvar=cvar,
        exceptions=exceptions,
        expected=len(losses) * (1 - confidence),
        tests=(
            coverage.kupiec(exceptions, confidence),
            coverage.christoffersen(exceptions),
            coverage.conditional_coverage(exceptions, confidence),
            *coverage.acerbi_szekely(losses, var, cvar, confidence, seed),
        ),
        traffic_light=coverage.traffic_light(exceptions, confidence),
        pinball=float(coverage.pinball(losses, var, confidence).mean()),
        fissler_ziegel=None if joint is None else float(joint.mean()),
        fallbacks=tuple(failures),
    )


def _compared(models: list[ModelBacktest], losses: np.ndarray, confidence: float) -> tuple[ModelComparison, ...]:
    found = []
    for first, second in combinations(models, 2):
        scores: dict[str, list[np.ndarray | None]] = {
            "fissler_ziegel": [coverage.fissler_ziegel(losses, m.var, m.cvar, confidence) for m in (first, second)],
            "pinball": [coverage.pinball(losses, m.var, confidence) for m in (first, second)],
        }
        for loss, (mine, other) in scores.items():
            if mine is not None and other is not None:
                tested = coverage.diebold_mariano(mine, other)
                found.append(ModelComparison(first.method_label, second.method_label, loss, *tested))
    return tuple(found)


def _historical(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    found = np.empty((len(daily) - window, 2))
    kernels.rolling_tails(-daily, window, confidence, np.empty(window), np.empty(window, np.int64), found)
    return found, []


def _age_weighted(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    found = np.empty((len(daily) - window, 2))
    weights = age_weights(window, settings.decay)
    kernels.rolling_weighted_tails(
        -daily, window, confidence, weights, np.empty(window), np.empty(window, np.int64), found
    )
    return found, []


def _gaussian(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    z = NORMAL.inv_cdf(confidence)
    factors = np.array([z, NORMAL.pdf(z) / (1 - confidence)])

    def measures(windows: np.ndarray) -> np.ndarray:
        unfloored = factors * windows.std(axis=1, ddof=1)[:, None] - windows.mean(axis=1)[:, None]
        return np.asarray(np.maximum(unfloored, 0.0))

    return _by_windows(daily, window, measures, tick), []


def _cornish_fisher(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    def measures(windows: np.ndarray) -> np.ndarray:
        mean = windows.mean(axis=1)
        centred = windows - mean[:, None]
        squares = centred * centred
        second = squares.mean(axis=1)
        if not (second > 0).all():
            raise InvalidMarketData("a window does not move, so it has no skewness", "Lengthen the window")
        skew = (squares * centred).mean(axis=1) / second**1.5
        excess = (squares * squares).mean(axis=1) / second**2 - 3
        return np.column_stack(expansion(mean, np.sqrt(second), skew, excess, confidence, 1))

    return _by_windows(daily, window, measures, tick), []


def _student_t(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    def fitted(past: np.ndarray) -> tuple[float, float]:
        fit = fit_student_t(past)
        return t_tail(fit.location, fit.scale, fit.degrees, confidence, 1)

    return _held(daily, window, refit, fitted, tick)


def _gpd(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    if settings.tail_share * window < MIN_PEAKS:
        raise InvalidMarketData(
            f"the worst {settings.tail_share:.0%} of {window} days are fewer than {MIN_PEAKS} peaks",
            f"Give a window of {math.ceil(MIN_PEAKS / settings.tail_share)} days",
        )
    if 1 - confidence >= settings.tail_share:
        raise InvalidMarketData(f"the {confidence:g} quantile lies below the threshold", "Raise one of the two")

    def fitted(past: np.ndarray) -> tuple[float, float]:
        var, cvar = fit_pareto(-past, settings.tail_share).tail(confidence)
        if not math.isfinite(cvar):
            raise InvalidMarketData("the tail is too heavy to have a mean", "Lengthen the window")
        return var, cvar

    return _held(daily, window, refit, fitted, tick)


def _filtered_historical(
    daily: np.ndarray, window: int, refit: int, confidence: float, settings: ValueAtRiskSettings, tick: Tick
) -> Forecast:
    if window < MIN_DAYS:
        raise InvalidMarketData(f"a window of {window} days is too short to filter", f"Give {MIN_DAYS} days")
    found = np.empty((len(daily) - window, 2))
    losses, scratch = np.empty(window), np.empty(window)
    held: np.ndarray | None = None
    failures: list[tuple[int, str]] = []
    for day in range(len(found)):
        past = daily[day : day + window]
        if day % refit == 0:
            try:
                fit, notes = filter_of(past)
                held = np.array([fit.mu, fit.omega, fit.alpha, fit.beta, fit.variances[0]])
                failures += [(day, note) for note in notes]
            except InvalidMarketData as error:
                if held is None:
                    raise
                failures.append((day, f"{error.problem}; the last fit is held"))
            tick(day)
        assert held is not None
        found[day] = kernels.filtered_tail(past, held, confidence, losses, scratch)
    return found, failures


def _by_windows(daily: np.ndarray, window: int, measures: Callable[[np.ndarray], np.ndarray], tick: Tick) -> np.ndarray:
    """A vectorised measure of every window, some windows at a time."""
    windows = np.lib.stride_tricks.sliding_window_view(daily, window)[:-1]
    rows = max(1, CHUNK // window)
    parts = []
    for start in range(0, len(windows), rows):
        parts.append(measures(windows[start : start + rows]))
        tick(min(start + rows, len(windows)))
    return np.concatenate(parts)


def _held(
    daily: np.ndarray, window: int, refit: int, fitted: Callable[[np.ndarray], tuple[float, float]], tick: Tick
) -> Forecast:
    """Forecasts of a method that is fitted every ``refit`` days; a fit that fails keeps the last one."""
    found = np.empty((len(daily) - window, 2))
    failures: list[tuple[int, str]] = []
    held: tuple[float, float] | None = None
    for day in range(0, len(found), refit):
        try:
            held = fitted(daily[day : day + window])
        except InvalidMarketData as error:
            if held is None:
                raise
            failures.append((day, f"{error.problem}; the last fit is held"))
        found[day : day + refit] = held
        tick(day)
    return found, failures


FORECASTS: dict[str, Callable[[np.ndarray, int, int, float, ValueAtRiskSettings, Tick], Forecast]] = {
    "historical": _historical,
    "age_weighted": _age_weighted,
    "filtered_historical": _filtered_historical,
    "gaussian": _gaussian,
    "cornish_fisher": _cornish_fisher,
    "student_t": _student_t,
    "gpd": _gpd,
}
METHODS = tuple(FORECASTS)
"""Methods that can be backtested."""
