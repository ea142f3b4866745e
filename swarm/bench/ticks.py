"""``swarm bench ticks``: what a tick costs in the loop of each room, and how long an alert takes through real agents.

The value-at-risk agent is held on the last core, the market data agent on the one before it and this process on the
first; with two cores the latter two share one, and this process then sleeps until it is woken. A tick's time is taken
as it is written into the market data agent's ring.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numba import njit

from actors.market.market_data.ticks import Follower, TickWriter, burst
from actors.risk.correlation import fast as correlation
from actors.risk.correlation.estimators import rebuild as correlation_state
from actors.risk.liquidity import fast as liquidity
from actors.risk.liquidity.impact import rebuild as liquidity_state
from actors.risk.value_at_risk import fast as value_at_risk
from actors.risk.value_at_risk.estimators import rebuild as value_at_risk_state
from cluster import runtime
from cluster.lanes.atomics import now_ns
from cluster.lanes.broadcast import Broadcaster, Listener
from cluster.lanes.broadcast_kernels import TAKEN, hear
from cluster.lanes.layout import PAGE, PORT_CONTROL
from cluster.lanes.serving import ASTRAY, idle
from hive import alerts
from hive.market.snapshot import MarketSnapshot
from hive.market.sources import bundled
from hive.messages.calculation import Role
from hive.messages.fast import OPERATIONS, Caller
from hive.messages.mandate import Limits
from hive.messages.portfolio import Portfolio, resolve
from hive.messages.ticks import PlacedBook, WatchedBook
from swarm.bench.record import Row, row
from swarm.client import SwarmClient
from swarm.settings import Settings

Strategy = Literal["spin", "park"]
TIMEOUT_S = 30.0
LOOPED = 32_768  # ticks of one pass through a loop
PASSES = 30
FLOW = 100_000.0  # ticks a second beside the questions
CALM = Limits(drawdown=0.05, var=1.0, leverage=50.0, concentration=1.0)
GOAL_US = 5.0
WAITING: dict[bool, tuple[tuple[Strategy, Strategy], ...]] = {
    True: (("spin", "spin"), ("park", "park")),
    False: (("spin", "park"), ("park", "park")),
}
"""How the agent and this process wait, where there are more than two cores and where not."""
TURNS, TURN_S = 5, 0.5


def run(*, rounds: int, settings: Settings, progress: Callable[[str], None]) -> list[Row]:
    """Cost of a tick, time from a tick to its alert, and a question's round trip while ticks flow; bundled prices."""
    snapshot = bundled(settings.market)
    rows = [_in_loop(role, make, snapshot, settings, progress) for role, make in ROOMS.items()]
    cores = sorted(os.sched_getaffinity(0))
    for strategy, listening in WAITING[len(cores) > 2]:
        progress(f"a swarm whose agents wait by {strategy}")
        chosen = replace(settings, lanes=replace(settings.lanes, wait=strategy))
        with _seated(chosen, cores) as client:
            rows += _alerted(client, strategy, listening, rounds, progress)
            if strategy == "park":
                rows += _asked(client, progress)
    return rows


def _value_at_risk(
    snapshot: MarketSnapshot, settings: Settings, placed: PlacedBook, ticks: Listener, board: Broadcaster
) -> tuple[Follower, tuple[np.ndarray, ...]]:
    state = value_at_risk_state(snapshot, settings.value_at_risk)
    follower = value_at_risk.follower(state, placed, settings.value_at_risk, ticks, board)
    return follower, value_at_risk.service(state).state


def _correlation(
    snapshot: MarketSnapshot, settings: Settings, placed: PlacedBook, ticks: Listener, board: Broadcaster
) -> tuple[Follower, tuple[np.ndarray, ...]]:
    state = correlation_state(snapshot, settings.correlation)
    follower = correlation.follower(state, placed, settings.correlation, ticks, board)
    return follower, correlation.service(state, settings.correlation).state


def _liquidity(
    snapshot: MarketSnapshot, settings: Settings, placed: PlacedBook, ticks: Listener, board: Broadcaster
) -> tuple[Follower, tuple[np.ndarray, ...]]:
    state = liquidity_state(snapshot, settings.liquidity)
    follower = liquidity.follower(state, placed, settings.liquidity, ticks, board)
    return follower, liquidity.service(state, settings.liquidity).state


ROOMS = {Role.VALUE_AT_RISK: _value_at_risk, Role.CORRELATION: _correlation, Role.LIQUIDITY: _liquidity}


def _in_loop(
    role: Role, make: Any, snapshot: MarketSnapshot, settings: Settings, progress: Callable[[str], None]
) -> Row:
    """The whole loop without lanes over ticks that lie ready: it comes back at a spoiled one behind them."""
    progress(f"a tick in the loop of {role}")
    assert snapshot.last_prices is not None
    n, taken = len(snapshot.symbols), []
    chunks = list(burst(snapshot.last_prices, np.full(n, 0.02), rate=1e5, count=LOOPED, seed=1))
    words, *arrays = idle()
    words[PORT_CONTROL] = 0
    for _ in range(PASSES):
        writer, board = TickWriter(slots=2 * LOOPED), alerts.board()
        follower, state = make(snapshot, settings, _placed(snapshot), Listener(writer.address), board)
        for chunk in chunks:
            writer.publish(chunk)
        writer.publish(chunks[0][:1])
        size = int(writer.broadcast.hand[2])
        writer.broadcast.words[PAGE + LOOPED * size + 3] += 1
        begun = time.perf_counter_ns()
        reason = follower.serve(state, words, *arrays)
        taken.append((time.perf_counter_ns() - begun) / LOOPED)
        assert reason == ASTRAY and follower.counts["ticks"] == LOOPED, (reason, follower.counts)
        follower.close()
        writer.close()
    return row(f"a tick in the loop of {role}", taken, unit="ns", params={"assets": n}, goal=("p50", 100.0))


def _placed(snapshot: MarketSnapshot) -> PlacedBook:
    portfolio = Portfolio.equal_weights(snapshot.symbols, value=1e7)
    book = resolve(portfolio, symbols=snapshot.symbols, currency=snapshot.currency, last_prices=snapshot.last_prices)
    watched = WatchedBook.of(
        book, last_prices=snapshot.last_prices, symbols=snapshot.symbols, limits=None, snapshot_id=None
    )
    watched = replace(watched, volumes=np.full(len(book.symbols), 1e6), spreads=np.full(len(book.symbols), 1e-4))
    return watched.placed(snapshot.symbols, snapshot.last_prices)


@contextmanager
def _seated(settings: Settings, cores: list[int]) -> Iterator[SwarmClient]:
    """A swarm with the agents of this bench on cores of their own, as far as there are any."""
    with SwarmClient.embedded(settings=settings) as client:
        os.sched_setaffinity(0, cores[:1])
        try:
            for agent in client.health().agents:
                core = {Role.VALUE_AT_RISK: cores[-1], Role.MARKET_DATA: cores[-2 if len(cores) > 1 else -1]}
                tasks = Path(f"/proc/{agent.pid}/task")
                for task in tasks.iterdir():
                    os.sched_setaffinity(int(task.name), [core.get(agent.role, cores[0])])
            yield client
        finally:
            os.sched_setaffinity(0, cores)


def _alerted(
    client: SwarmClient, strategy: str, listening: str, rounds: int, progress: Callable[[str], None]
) -> list[Row]:
    """From the moment the market data agent stamps a tick: to the alert raised, and to it in this process."""
    progress("from a tick to its alert")
    header = client.snapshot()
    assert header.last_prices is not None
    symbol, price = header.symbols[0], float(header.last_prices[0])
    book = client._watched(Portfolio.from_quantities({symbol: 1000.0}, name="bench"), CALM, None)
    actor = runtime.find_actor(Role.VALUE_AT_RISK.value, client._namespace)
    where = runtime.wait_for(actor.watch.remote(book, Caller.here(listening)), TIMEOUT_S)
    heard, found = np.zeros((rounds, 3), np.int64), np.zeros(alerts.ALERT_WORDS, np.int64)
    with Listener(where.board, listening) as listener:
        control = np.zeros(1, np.int64)
        _hear_all(listener.words, listener.hand, found, control, heard[:0])  # compiled before anything is timed
        thread = threading.Thread(
            target=_hear_all, args=(listener.words, listener.hand, found, control, heard), daemon=True
        )
        thread.start()
        offset_ns = _utc_over_monotonic_ns()
        try:
            for number in range(rounds):
                client.push_ticks({symbol: price / 2})
                give_up = time.monotonic() + TIMEOUT_S
                while not heard[number, 2] and time.monotonic() < give_up:
                    time.sleep(0.0002)
                client.push_ticks({symbol: price})
        finally:
            control[0] = 1
            thread.join()
    client.unwatch()
    client.stop_ticks(forget=True)
    assert heard[:, 2].all(), "an alert did not come"
    raised_us, heard_us = (heard[:, 1:] + offset_ns - heard[:, :1]).T / 1e3
    words = f"the agent waits by {strategy}"
    return [
        row(f"tick to alert raised, {words}", raised_us.tolist(), unit="us", goal=("p50", GOAL_US)),
        row(
            f"tick to alert in another process, {words}, the subscriber by {listening}",
            heard_us.tolist(),
            unit="us",
            goal=("p50", GOAL_US),
        ),
    ]


def _asked(client: SwarmClient, progress: Callable[[str], None]) -> list[Row]:
    """A question over a lane to the agent that watches a book, without ticks and with many, in turns."""
    progress("a question while ticks flow")
    header = client.snapshot()
    book = client._watched(Portfolio.equal_weights(header.symbols, value=1e7), CALM, None)
    actor = runtime.find_actor(Role.VALUE_AT_RISK.value, client._namespace)
    reference = client.reference(Role.VALUE_AT_RISK)
    operation = OPERATIONS[Role.VALUE_AT_RISK]["parametric"]
    question = np.append(0.95, np.full(len(header.symbols), 1 / len(header.symbols)))
    times: dict[str, list[float]] = {"unwatched": [], "still": [], "flowing": []}
    reference.ask(operation, question, patience_s=TIMEOUT_S)
    lane = reference.lane()

    def ask(name: str) -> None:
        give_up = time.monotonic() + TURN_S
        while time.monotonic() < give_up:
            begun = time.perf_counter_ns()
            lane.ask(operation, question)
            times[name].append((time.perf_counter_ns() - begun) / 1e3)

    for turn in range(TURNS):
        runtime.wait_for(actor.unwatch.remote(), TIMEOUT_S)
        ask("unwatched")
        runtime.wait_for(actor.watch.remote(book, Caller.here("park")), TIMEOUT_S)
        ask("still")
        client.start_ticks("burst", rate=FLOW, count=10**9, speed=1.0, seed=turn)
        ask("flowing")
        status = client.stop_ticks()
    client.unwatch()
    reference.close()
    alone = row("a fast question, no book watched", times["unwatched"], unit="us")
    still = row("a fast question, a book watched and no ticks", times["still"], unit="us", peer=alone)
    flowing = row(
        "a fast question while ticks flow",
        times["flowing"],
        unit="us",
        params={"ticks a second": int(FLOW), "ticks": status.written},
        peer=alone,
    )
    return [alone, still, flowing]


@njit(nogil=True, error_model="numpy")
def _hear_all(words, hand, found, control, heard):  # type: ignore[no-untyped-def]
    """Time of the tick, of the alert and of hearing it, of as many alerts as there are rows."""
    scratch = np.zeros(2, np.int64)
    for i in range(heard.shape[0]):
        while hear(words, hand, found, control, now_ns(scratch) + 20_000_000) != TAKEN:
            if control[0] != 0:
                return
        at = now_ns(scratch)
        heard[i, 0], heard[i, 1] = found[alerts.TICK_NS], found[alerts.RAISED_NS]
        heard[i, 2] = at


def _utc_over_monotonic_ns() -> int:
    """How far UTC, which ticks carry, runs ahead of the monotonic clock, which alerts carry."""
    pairs = [(time.monotonic_ns(), time.time_ns(), time.monotonic_ns()) for _ in range(200)]
    before, utc, after = min(pairs, key=lambda pair: pair[2] - pair[0])
    return utc - (before + after) // 2
