"""Ticks and a watched book on a real swarm: figures as computed plainly, typed alerts, deaths, lanes undisturbed."""

from __future__ import annotations

import io
import math
import os
import signal
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console

from actors.risk.covariance import correlation_of, ewma, mean_pair
from cluster import runtime
from cluster.errors import (
    DeadlineExceeded,
    InvalidInput,
    InvalidMarketData,
    InvalidPortfolio,
    InvalidRequest,
    LanesUnavailable,
    SwarmUnavailable,
)
from hive.figures import SHOWN
from hive.market.settings import MarketSettings
from hive.market.snapshot import MarketSnapshot
from hive.market.sources import bundled
from hive.messages.alert import Alert, AlertKind, Priority
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS, Caller
from hive.messages.mandate import Limits
from hive.messages.portfolio import Position
from hive.watch import Watch
from swarm import Portfolio, SwarmClient
from swarm.report.swarm import agents as agents_shown
from swarm.report.swarm import lanes as lanes_shown
from swarm.report.watch import live
from tests.conftest import agent, eventually

DECAY = 0.94
Z = 1.6448536269514722
HELD = {"AAPL": 30_000.0, "JPM": 10_000.0, "XOM": -5_000.0, "KO": 20_000.0, "MSFT": 4_000.0}
CASH = 1e6


@pytest.fixture(scope="module")
def market() -> MarketSnapshot:
    return bundled(MarketSettings())


@pytest.fixture
def quiet(client: SwarmClient) -> Iterator[SwarmClient]:
    """No ticks and no watched book, before and after."""
    client.stop_ticks(forget=True)
    client.unwatch()
    yield client
    client.stop_ticks(forget=True)
    client.unwatch()


@pytest.fixture
def book() -> Portfolio:
    positions = tuple(Position(s, quantity=q, average_daily_volume=1e6, spread=0.001) for s, q in HELD.items())
    return Portfolio(positions, name="desk", cash=CASH)


def taken(ear: Watch, ticks: int) -> bool:
    counts = ear.figures().counts
    return set(counts) == set(SHOWN) and all(count.ticks + count.missed >= ticks for count in counts.values())


def caught_up(client: SwarmClient, ear: Watch, ticks: int) -> None:
    assert eventually(lambda: taken(ear, ticks)), (ear.figures(), client.ticks())


def pushed(client: SwarmClient, symbols: list[str], prices: list[float], at_ns: int | None = None) -> None:
    """More than one tick of a symbol at once, which the client's mapping cannot say."""
    runtime.wait_for(client._market().push_ticks.remote(symbols, prices, at_ns), 10.0)


def test_after_a_replay_the_figures_are_those_computed_plainly(
    quiet: SwarmClient, book: Portfolio, market: MarketSnapshot
) -> None:
    dates = market.dates.astype("datetime64[D]")
    start, end = (int(np.searchsorted(dates, np.datetime64(day))) for day in ("2008-08-29", "2008-12-31"))
    days = market.prices[start + 2 : end + 2]  # prices begin a day before returns
    units = np.zeros(len(market.symbols))
    units[[market.symbols.index(symbol) for symbol in HELD]] = list(HELD.values())
    with quiet.watch(book, as_of="2008-08-29", limits=Limits(drawdown=0.1)) as ear:
        assert ear.missing == {}
        assert quiet.start_ticks("replay", first="2008-09-01", last="2008-12-31").source == "replay"
        caught_up(quiet, ear, days.size)
        found = list(ear.alerts(0.1))
        figures = ear.figures()
    assert {alert.source for alert in found} >= {"value_at_risk", "correlation"}
    first = market.prices[start + 1]
    values, exposures = days @ units + CASH, units * days[-1]
    peak = max(values.max(), float(first @ units + CASH))
    covariance = np.cov(market.returns[: start + 1], rowvar=False)
    weighed = ewma(market.returns[start + 1 - math.ceil(math.log(1e-9) / math.log(DECAY)) : start + 1], DECAY)
    for moves in np.diff(np.vstack([first, days[:-1]]), axis=0) / np.vstack([first, days[:-2]]):
        weighed = DECAY * weighed + (1 - DECAY) * np.outer(moves, moves)
    assert figures.value == pytest.approx(values[-1], rel=1e-9)
    assert figures.profit == pytest.approx(values[-1] - first @ units - CASH, rel=1e-8)
    assert figures.var == pytest.approx(Z * math.sqrt(exposures @ covariance @ exposures) / values[-1], rel=1e-7)
    assert figures.peak_value >= peak * (1 - 1e-12)  # symbols tick one after the other: between them it may be higher
    assert figures.drawdown == pytest.approx(1 - values[-1] / figures.peak_value, rel=1e-8)
    assert figures.gross == pytest.approx(np.abs(exposures).sum(), rel=1e-9)
    assert figures.leverage == pytest.approx(np.abs(exposures).sum() / values[-1], rel=1e-9)
    assert figures.concentration == pytest.approx(np.abs(exposures).max() / np.abs(exposures).sum(), rel=1e-9)
    assert figures.volatility == pytest.approx(math.sqrt(exposures @ weighed @ exposures) / values[-1], rel=1e-6)
    assert figures.mean_correlation == pytest.approx(mean_pair(correlation_of(weighed)), rel=1e-6)
    assert figures.days_to_liquidate == pytest.approx(max(map(abs, HELD.values())) / 1e6 / 0.1, rel=1e-9)
    assert quiet.ticks().last_ns == int(dates[end].astype("datetime64[ns]").astype(np.int64)) + 21 * 3600 * 10**9
    console = Console(file=io.StringIO(), width=160)
    console.print(live(figures, found, missed=3, withheld=1))
    assert all(words in console.file.getvalue() for words in ("desk", "drawdown", "3 alerts came faster", "2008-12-31"))


def test_an_alert_comes_typed_and_once_a_minute(quiet: SwarmClient, book: Portfolio, market: MarketSnapshot) -> None:
    price = float(market.last_prices[market.symbols.index("AAPL")])
    with quiet.watch(book, limits=Limits(drawdown=0.05, var=1.0, leverage=50.0, concentration=1.0)) as ear:
        with pytest.raises(DeadlineExceeded):
            ear.next(0.02)
        pushed(quiet, ["AAPL"] * 4, [price, price / 2, price, price / 2], at_ns=10**18)
        (alert,) = ear.alerts(0.5)
        assert (alert.kind, alert.priority, alert.source) == (
            AlertKind.LIMIT_BREACH,
            Priority.CRITICAL,
            "value_at_risk",
        )
        assert (alert.subject, alert.limit, alert.ts_ns) == ("desk", 0.05, 10**18)
        assert alert.value > 0.05 and "drawdown" in alert.message
        assert ear.withheld == 1
        pushed(quiet, ["AAPL"] * 2, [price, price / 2], at_ns=10**18 + 61 * 10**9)
        found = ear.next(5.0)
        assert isinstance(found.alert, Alert) and found.symbol == "AAPL" and not found.incomplete
        assert quiet.ticks().written > 0 and not quiet.ticks().running
        health, ports = quiet.health(), quiet.lanes()
    assert ports["value_at_risk"].ticks == {"ticks": 6, "missed": 0, "refused": 0, "alerts": 3}
    assert ports["stress"] is None or ports["stress"].ticks is None
    console = Console(file=io.StringIO(), width=220)
    console.print(lanes_shown(health, ports, {}, 0.0), agents_shown(health, ()))
    assert "missed" in console.file.getvalue() and "ticks" in console.file.getvalue()


def test_a_slow_listener_is_told_what_it_missed(quiet: SwarmClient, book: Portfolio, market: MarketSnapshot) -> None:
    price = float(market.last_prices[market.symbols.index("AAPL")])
    with quiet.watch(book, limits=Limits(drawdown=0.05, var=1.0, leverage=50.0, concentration=1.0)) as ear:
        for _ in range(2):
            pushed(quiet, ["AAPL"] * 4096, [price / 2, price] * 2048)
        caught_up(quiet, ear, 8192)
        raised = ear.figures().counts[Role.VALUE_AT_RISK].alerts
        shown = len(list(ear.alerts(0.3)))
        assert raised == 4096
        assert ear.missed == 4096 - 1024
        assert shown + ear.withheld + ear.missed == raised


def test_lanes_answer_while_a_burst_runs_as_they_do_without(quiet: SwarmClient, book: Portfolio) -> None:
    weights = np.full(20, 1 / 20)
    money = np.concatenate([[1e6], weights * 1e6, np.full(20, 1e7), np.full(20, 1e-4), np.full(20, 1e5)])
    asked = {
        Role.VALUE_AT_RISK: ("parametric", np.concatenate([[0.95], weights])),
        Role.CORRELATION: ("book", weights),
        Role.LIQUIDITY: ("book", money),
    }
    references = {role: quiet.reference(role) for role in asked}

    def answers() -> dict[Role, list[float]]:
        return {
            role: references[role].ask(OPERATIONS[role][name], numbers, patience_s=30.0).tolist()
            for role, (name, numbers) in asked.items()
        }

    expected = answers()
    with quiet.watch(book) as ear:
        quiet.start_ticks("burst", rate=2e5, count=150_000, speed=1.0, seed=3)
        rounds = 0
        while quiet.ticks().running:
            assert all(answers() == expected for _ in range(20))
            rounds += 20
        assert rounds >= 20
        caught_up(quiet, ear, 150_000)
        assert eventually(lambda: not any(count.incomplete for count in ear.figures().counts.values()))
    for reference in references.values():
        reference.close()


def test_a_source_stops_when_told_and_there_is_one_at_a_time(quiet: SwarmClient, book: Portfolio) -> None:
    quiet.start_ticks("burst", rate=10.0, count=1_000_000, speed=1.0)
    with pytest.raises(InvalidRequest, match="running"):
        quiet.start_ticks("replay")
    with pytest.raises(InvalidRequest, match="running"):
        quiet.push_ticks({"AAPL": 100.0})
    stopped = quiet.stop_ticks()
    assert (stopped.running, stopped.ended) == (False, "stopped")
    assert quiet.stop_ticks().running is False
    assert quiet.push_ticks({"AAPL": 100.0}).written == stopped.written + 1


@pytest.mark.parametrize(
    "wrong",
    [
        lambda client: client.start_ticks("lottery"),
        lambda client: client.start_ticks("push"),
        lambda client: client.start_ticks("replay", speed=0.0),
        lambda client: client.start_ticks("replay", first="2008"),
        lambda client: client.start_ticks("replay", first="2050-01-01"),
        lambda client: client.start_ticks("burst", rate=-1.0),
        lambda client: client.push_ticks({"NONE": 1.0}),
        lambda client: client.push_ticks({"AAPL": math.nan}),
        lambda client: client.push_ticks({"AAPL": -1.0}),
        lambda client: client.push_ticks({}),
        lambda client: client.watch(Portfolio.from_weights({"NONE": 1.0}, value=1.0)),
        lambda client: client.watch(Portfolio.from_weights({"AAPL": 1.0})),
        lambda client: client.watch(Portfolio((Position("AAPL", weight=1.0, gamma=2.0),), value=1.0)),
    ],
)
def test_bad_input_is_refused_and_changes_nothing(quiet: SwarmClient, wrong) -> None:
    with pytest.raises(InvalidInput):
        wrong(quiet)
    assert not quiet.ticks().running
    with pytest.raises(SwarmUnavailable, match="no book is watched"):
        quiet.watch()


def test_another_machine_is_told_so(quiet: SwarmClient, book: Portfolio) -> None:
    with quiet.watch(book):
        foreign = replace(Caller.here("park"), boot_id="another")
        actor = runtime.find_actor("value_at_risk", quiet._namespace)
        with pytest.raises(LanesUnavailable, match="another machine"):
            runtime.wait_for(actor.watching.remote(foreign), 10.0)


def test_another_book_takes_the_place_of_the_first(quiet: SwarmClient, book: Portfolio) -> None:
    with quiet.watch(book) as first, quiet.watch(replace(book, name="other")) as second:
        assert second.figures().portfolio == "other" and not second.missing
        with pytest.raises(SwarmUnavailable, match="other"):
            while True:
                first.next(5.0)
        with quiet.watch() as third:
            assert (third.portfolio, third.missing) == ("other", {})


def test_a_watch_outlives_the_agent_that_keeps_it(
    healthy: SwarmClient, quiet: SwarmClient, book: Portfolio, market: MarketSnapshot
) -> None:
    price = float(market.last_prices[market.symbols.index("AAPL")])
    with quiet.watch(book, limits=Limits(drawdown=0.05, var=1.0, leverage=50.0, concentration=1.0)) as ear:
        quiet.push_ticks({"AAPL": 2 * price})
        caught_up(quiet, ear, 1)
        peak = ear.figures().peak_value
        quiet.push_ticks({"AAPL": 1.97 * price})
        caught_up(quiet, ear, 2)
        before = ear.figures()
        remembered = lambda: runtime.wait_for(quiet._market().watched.remote(), 10.0).peak_value  # noqa: E731
        assert eventually(lambda: remembered() == peak)
        os.kill(agent(quiet, "value_at_risk").pid, signal.SIGKILL)
        assert eventually(lambda: Role.VALUE_AT_RISK in ear.figures().missing)
        assert ear.figures().volatility == before.volatility
        assert eventually(lambda: not ear.figures().missing)
        after = ear.figures()
        for name in SHOWN[Role.VALUE_AT_RISK]:
            assert getattr(after, name) == pytest.approx(getattr(before, name), rel=1e-9)
        quiet.push_ticks({"AAPL": price})
        assert "drawdown" in ear.next(10.0).alert.message


def test_followers_find_the_ring_of_a_market_agent_that_came_back(
    healthy: SwarmClient, quiet: SwarmClient, book: Portfolio, market: MarketSnapshot
) -> None:
    price = float(market.last_prices[market.symbols.index("JPM")])
    with quiet.watch(book, limits=Limits(drawdown=0.01, var=1.0, leverage=50.0, concentration=1.0)) as ear:
        quiet.push_ticks({"JPM": price * 1.1})
        caught_up(quiet, ear, 1)
        before = ear.figures()
        os.kill(agent(quiet, "market_data").pid, signal.SIGKILL)

        def told() -> bool:
            try:
                quiet.push_ticks({"JPM": price / 2})
            except (SwarmUnavailable, InvalidRequest):
                return False
            return True

        assert eventually(told)
        assert ear.figures().missing == {}
        assert "drawdown" in ear.next(20.0).alert.message
        after = ear.figures()
        assert after.value == pytest.approx(before.value - HELD["JPM"] * price * 0.6, rel=1e-9)
        assert after.counts[Role.VALUE_AT_RISK].missed == 0 or not after.counts[Role.VALUE_AT_RISK].incomplete
        assert runtime.wait_for(quiet._market().watched.remote(), 10.0).name == "desk"


def test_a_new_snapshot_is_stood_upon_and_one_without_its_symbols_ends_the_watch(
    quiet: SwarmClient, book: Portfolio, market: MarketSnapshot, tmp_path: Path
) -> None:
    current = quiet.snapshot().snapshot_id
    days = pd.DataFrame(market.prices[-400:] * 1.5, columns=list(market.symbols))
    dates = np.concatenate([[market.base_date], market.dates.astype(str)])[-400:]
    try:
        with quiet.watch(book, limits=Limits(drawdown=0.9, var=1.0, leverage=50.0, concentration=1.0)) as ear:
            before = ear.figures()
            days.insert(0, "date", dates)
            days.to_csv(tmp_path / "dearer.csv", index=False)
            quiet.load_prices(tmp_path / "dearer.csv")
            assert eventually(lambda: not ear.figures().missing and ear.figures().gross > 1.4 * before.gross)
            figures = ear.figures()
            assert figures.gross == pytest.approx(1.5 * before.gross, rel=1e-9)
            assert figures.value - CASH == pytest.approx(1.5 * (before.value - CASH), rel=1e-9)
            assert figures.var != pytest.approx(before.var, rel=1e-3)
            days.drop(columns=["KO", "XOM"]).to_csv(tmp_path / "fewer.csv", index=False)
            quiet.load_prices(tmp_path / "fewer.csv")
            found = ear.next(20.0).alert
            assert (found.kind, found.priority) == (AlertKind.STALE_DATA, Priority.CRITICAL)
            assert "lacks 2 of its symbols" in found.message
            assert eventually(lambda: set(ear.figures().missing) == set(SHOWN))
            assert eventually(lambda: "XOM" in ear.figures().missing[Role.LIQUIDITY])
            with pytest.raises(InvalidPortfolio):
                quiet.watch(book)
            quiet.use_snapshot(current)
            assert eventually(lambda: taken(ear, 0))
            assert ear.figures().gross == pytest.approx(before.gross, rel=1e-9)
    finally:
        quiet.use_snapshot(current)


def test_a_watch_that_is_closed_says_so(quiet: SwarmClient, book: Portfolio) -> None:
    ear = quiet.watch(book)
    ear.close()
    ear.close()
    for asked in (lambda: ear.next(0.1), ear.figures):
        with pytest.raises(SwarmUnavailable, match="closed"):
            asked()
    with pytest.raises(InvalidMarketData):
        quiet.push_ticks({"AAPL": 0.0})
