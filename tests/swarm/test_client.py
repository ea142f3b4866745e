"""The client against a real swarm: right numbers, every way of asking, refusals that change nothing."""

from __future__ import annotations

import asyncio
import datetime
import math
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from actors.risk.value_at_risk import estimators
from actors.risk.value_at_risk.settings import ValueAtRiskSettings
from cluster import runtime
from hive.market.settings import MarketSettings
from hive.market.sources import bundled
from hive.messages.calculation import CalculationRequest, Parameters
from hive.messages.codec import decode, encode
from hive.messages.portfolio import resolve
from swarm import (
    AnswerStatus,
    CalculationIncomplete,
    CalculationType,
    InvalidPortfolio,
    InvalidRequest,
    Portfolio,
    Position,
    SessionConflict,
    SwarmClient,
    SwarmError,
    SwarmUnavailable,
    UnknownSnapshot,
)

# Equal weights of the 20 stocks, 8312 days, daily rebalanced: skfolio and Riskfolio agree on these.
REFERENCE = {
    ("var", 0.95): 0.017451735440,
    ("cvar", 0.95): 0.027151732679,
    ("var", 0.99): 0.031384567543,
    ("cvar", 0.99): 0.045772428823,
}


@pytest.fixture
def book(client: SwarmClient) -> Portfolio:
    return Portfolio.equal_weights(client.snapshot().symbols, value=1e7)


@pytest.mark.parametrize(("measure", "confidence"), REFERENCE)
def test_var_of_equal_weights_reproduces_the_reference(
    client: SwarmClient, book: Portfolio, measure: str, confidence: float
) -> None:
    result = client.calculate(book, "var")
    found = result.estimate(measure, confidence, "historical")
    assert math.isclose(found.value, REFERENCE[measure, confidence], rel_tol=1e-9)
    assert found.lower < found.value < found.upper
    assert found.samples == 8312


def test_comprehensive_carries_five_complete_answers_on_one_snapshot(client: SwarmClient, book: Portfolio) -> None:
    result = client.calculate(book)
    assert list(result.answers) == ["value_at_risk", "stress", "correlation", "liquidity", "portfolio"]
    assert {answer.status for answer in result.answers.values()} == {AnswerStatus.OK}
    assert {answer.snapshot_id for answer in result.answers.values()} == {result.snapshot_id}
    assert len({answer.input_hash for answer in result.answers.values()}) == 1
    assert result.complete and result.as_of == "2022-12-28"
    assert all(
        answer.elapsed_ns > 0 and answer.agent_id and answer.method_labels for role, answer in _with_numbers(result)
    )


def test_agents_through_the_hub_give_what_their_brains_give_alone(client: SwarmClient, book: Portfolio) -> None:
    snapshot = bundled(MarketSettings())
    assert client.snapshot().snapshot_id == snapshot.content_id
    resolved = resolve(book, symbols=snapshot.symbols, currency=snapshot.currency, last_prices=snapshot.last_prices)
    settings = ValueAtRiskSettings()
    alone = estimators.estimate(estimators.rebuild(snapshot, settings), resolved, Parameters(), settings)[0]
    assert client.calculate(book, "var").report("value_at_risk") == alone


def test_same_seed_same_bits_and_another_seed_moves_only_intervals(client: SwarmClient, book: Portfolio) -> None:
    first, again, other = (client.calculate(book, "correlation", seed=seed) for seed in (7, 7, 8))
    assert first.report("correlation") == again.report("correlation")
    assert first.estimate("mean_correlation").lower != other.estimate("mean_correlation").lower
    assert first.estimate("mean_correlation").value == other.estimate("mean_correlation").value


def test_horizon_confidence_shock_and_window_reach_the_agents(client: SwarmClient, book: Portfolio) -> None:
    result = client.calculate(
        book,
        horizon_days=10,
        confidences=[0.9],
        shocks={"banks": {"JPM": -0.5, "BAC": -0.5}},
        windows=[("1990-08-01", "1990-10-11")],
    )
    assert result.estimate("var").method_label == "historical_overlapping"
    assert {e.confidence for e in result.report("value_at_risk").estimates} == {0.9}
    scenarios = {s.name: s for s in result.report("stress").scenarios}
    assert math.isclose(scenarios["banks"].loss.value, 0.05)
    assert scenarios["1990-08-01 to 1990-10-11"].loss.value > 0.1


def test_unknown_volumes_are_said_and_nothing_is_invented(client: SwarmClient, book: Portfolio) -> None:
    result = client.calculate(book, "liquidity")
    report = result.report("liquidity")
    assert report.covered == 0 and report.estimates == ()
    assert "no volume or price is known" in result.answers["liquidity"].warnings[0]
    assert not [e for e in client.calculate(book).merged if e.measure == "liquidity_adjusted_var"]


def test_liquidity_adjusted_var_is_var_plus_the_cost_of_selling(client: SwarmClient) -> None:
    book = Portfolio((Position("AAPL", quantity=1e6, average_daily_volume=5e7, spread=0.001),), value=2e8, cash=0)
    result = client.calculate(book)
    cost = next(e for e in result.report("liquidity").estimates if e.unit == "fraction")
    adjusted = result.estimate("liquidity_adjusted_var", 0.95)
    assert math.isclose(adjusted.value, result.estimate("var", 0.95).value + cost.value)


def test_batch_comes_back_in_order_and_equals_single_questions(client: SwarmClient) -> None:
    symbols = client.snapshot().symbols
    books = [Portfolio.from_weights({symbol: 1.0}, name=symbol) for symbol in symbols]
    results = client.calculate_many(books, "var")
    assert [result.portfolio for result in results] == list(symbols)
    alone = client.calculate(books[3], "var")
    assert results[3].report("value_at_risk") == alone.report("value_at_risk")


def test_ten_at_a_time_and_a_hundred_in_a_row_lose_nothing(client: SwarmClient) -> None:
    symbols = client.snapshot().symbols
    books = [Portfolio.from_weights({symbols[i % 20]: 1.0}, name=f"book {i}") for i in range(100)]
    before = client.health().calculations
    with ThreadPoolExecutor(10) as pool:
        together = list(pool.map(client.calculate, books[:10]))
    in_a_row = [client.calculate(book, "var") for book in books]
    assert [r.portfolio for r in together] == [b.name for b in books[:10]]
    assert [r.portfolio for r in in_a_row] == [b.name for b in books]
    assert all(r.complete for r in together + in_a_row)
    assert client.health().calculations == before + 110


def test_futures_and_asyncio_give_the_same_answer(client: SwarmClient, book: Portfolio) -> None:
    expected = client.calculate(book, "var").report("value_at_risk")
    assert client.submit(book, "var").result(timeout=30).report("value_at_risk") == expected

    async def together() -> list[Any]:
        return await asyncio.gather(*(client.calculate_async(book, "var") for _ in range(5)))

    assert [r.report("value_at_risk") for r in asyncio.run(together())] == [expected] * 5
    (many,) = asyncio.run(client.calculate_many_async([book], "var"))
    assert many.report("value_at_risk") == expected


def test_result_survives_codec_dict_and_frame(client: SwarmClient, book: Portfolio) -> None:
    result = client.calculate(book)
    assert decode(encode(result)) == result
    assert result.to_dict()["answers"]["value_at_risk"]["status"] == "ok"
    frame = result.to_frame()
    row = frame[(frame.measure == "var") & (frame.confidence == 0.95) & (frame.method_label == "historical")].iloc[0]
    assert row.value == result.estimate("var", 0.95).value


def test_as_of_sees_nothing_later(client: SwarmClient, book: Portfolio) -> None:
    result = client.calculate(book, as_of="2008-09-12")
    assert result.as_of == "2008-09-12"
    scenarios = {s.name: s for s in result.report("stress").scenarios}
    assert scenarios["Lehman and after, 2008"].loss is None
    assert "outside the snapshot" in scenarios["Lehman and after, 2008"].note
    assert result.report("value_at_risk").estimates[0].samples < 8312
    by_date = client.calculate(book, as_of=datetime.date(2008, 9, 12))
    assert by_date.snapshot_id == result.snapshot_id
    by_id = client.calculate(book, snapshot=result.snapshot_id)
    assert by_id.report("value_at_risk") == result.report("value_at_risk")


def test_sharing_a_snapshot_makes_no_copy_of_its_arrays(client: SwarmClient) -> None:
    reference = runtime.share(bundled(MarketSettings()))
    first, second = (runtime.wait_for(reference, 10.0) for _ in range(2))
    assert not first.returns.flags.writeable
    assert np.shares_memory(first.returns, second.returns)


BAD_BOOKS = {
    "unknown symbol": lambda: Portfolio.from_weights({"NOPE": 1.0}),
    "nan": lambda: Portfolio.from_weights({"AAPL": math.nan, "JPM": 0.5}),
    "empty": lambda: Portfolio.from_weights({}),
    "duplicate": lambda: Portfolio((Position("AAPL", weight=0.5), Position("AAPL", weight=0.5))),
    "weights that do not sum": lambda: Portfolio.from_weights({"AAPL": 0.7, "JPM": 0.7}),
    "zero value": lambda: Portfolio.from_quantities({"AAPL": 0.0}),
    "mixed currencies": lambda: Portfolio((Position("AAPL", weight=0.5), Position("JPM", weight=0.5, currency="EUR"))),
    "foreign": lambda: Portfolio((Position("AAPL", weight=1.0, currency="EUR"),), currency="EUR"),
}


@pytest.mark.parametrize("name", BAD_BOOKS)
def test_bad_portfolio_is_refused_whole_before_anything_is_computed(client: SwarmClient, name: str) -> None:
    answered = _answered(client)
    with pytest.raises(InvalidPortfolio) as refused:
        client.calculate(BAD_BOOKS[name]())
    assert refused.value.remedy
    assert _answered(client) == answered


BAD_REQUESTS = {
    "confidence": ({"confidences": [0.05]}, InvalidRequest, "its confidence is 0.95"),
    "horizon": ({"horizon_days": 0}, InvalidRequest, "horizon of 0 days"),
    "type": ({"calculation": "everything"}, InvalidRequest, "'everything' is unknown"),
    "snapshot": ({"snapshot": "0123456789"}, UnknownSnapshot, "'0123456789'"),
    "date": ({"as_of": "2050-01-01"}, UnknownSnapshot, "covers 1990-01-03 to 2022-12-28"),
    "no date": ({"as_of": "yesterday"}, UnknownSnapshot, "'yesterday'"),
    "both": ({"as_of": "2020-01-02", "snapshot": "573ce2"}, InvalidRequest, "both a snapshot id and a date"),
    "past": ({"deadline": -1.0}, InvalidRequest, "in the past"),
    "zone": ({"deadline": datetime.datetime(2050, 1, 1)}, InvalidRequest, "no time zone"),
    "nan": ({"deadline": math.nan}, InvalidRequest, "no usable span"),
    "ever": ({"deadline": math.inf}, InvalidRequest, "no usable span"),
    "seed": ({"seed": -1}, InvalidRequest, "seed -1"),
}


@pytest.mark.parametrize("name", BAD_REQUESTS)
def test_bad_request_is_refused_and_names_the_input(client: SwarmClient, book: Portfolio, name: str) -> None:
    options, kind, words = BAD_REQUESTS[name]
    answered = _answered(client)
    with pytest.raises(kind, match=words) as refused:
        client.calculate(book, **options)
    assert isinstance(refused.value, SwarmError) and refused.value.remedy
    assert _answered(client) == answered


def test_deadline_that_passed_on_the_way_is_refused_by_the_hub(client: SwarmClient, book: Portfolio) -> None:
    request = CalculationRequest((book,), CalculationType.VAR_CVAR, Parameters(), deadline_utc_ns=1)
    hub = runtime.find_actor("hub", "riskswarm")
    with pytest.raises(InvalidRequest, match="the deadline passed"):
        runtime.wait_for(hub.calculate.remote(request), 10.0)


def test_client_that_was_closed_says_so_and_leaves_others_alone(client: SwarmClient, book: Portfolio) -> None:
    other = SwarmClient()
    other.close()
    other.close()
    for use in (lambda: other.calculate(book), other.health, lambda: other.submit(book), other.snapshots):
        with pytest.raises(SwarmUnavailable, match="closed"):
            use()
    assert client.calculate(book, "var").complete


def test_client_of_a_joined_process_is_not_led_to_another_swarm_silently(client: SwarmClient, tmp_path: Path) -> None:
    with pytest.raises(SwarmUnavailable, match="no swarm is recorded"):
        SwarmClient(home=tmp_path)
    with pytest.raises(SessionConflict, match="cannot join"):
        SwarmClient("127.0.0.1:1")


def test_deadline_of_a_future_counts_from_its_submission(client: SwarmClient, book: Portfolio) -> None:
    futures = [client.submit(book, "var", deadline=30.0) for _ in range(12)]
    assert all(future.result(timeout=60).complete for future in futures)
    with pytest.raises(InvalidRequest, match="in the past"):
        client.submit(book, deadline=0.0)


def test_shock_of_a_stranger_fails_stress_alone(client: SwarmClient) -> None:
    book = Portfolio.from_weights({"AAPL": 1.0})
    result = client.calculate(book, shocks={"bad": {"XOM": -0.1}})
    assert result.answers["stress"].status is AnswerStatus.FAILED
    assert "XOM" in result.answers["stress"].reason
    assert result.completeness == 0.8 and not result.complete
    with pytest.raises(CalculationIncomplete, match="XOM") as error:
        client.calculate(book, "stress", shocks={"bad": {"XOM": -0.1}})
    assert error.value.results[0].answers["stress"].status is AnswerStatus.FAILED


def _answered(client: SwarmClient) -> dict[str, int]:
    return {found.agent_id: found.report.answered for found in client.health().agents if found.report is not None}


def _with_numbers(result: Any) -> list[tuple[str, Any]]:
    return [(role, answer) for role, answer in result.answers.items() if role != "liquidity"]
