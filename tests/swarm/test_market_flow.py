"""Loading and choosing market data on a running swarm."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from swarm import InvalidMarketData, InvalidPortfolio, Portfolio, SwarmClient
from tests.conftest import agent, eventually


@pytest.fixture
def bundled_again(client: SwarmClient) -> Iterator[str]:
    """Id of the bundled snapshot, current again after the test."""
    current = client.snapshot().snapshot_id
    yield current
    client.use_snapshot(current)


@pytest.fixture
def prices(tmp_path: Path) -> Path:
    rng = np.random.default_rng(5)
    steps = rng.normal(0, 0.01, (300, 2))
    frame = pd.DataFrame(100 * np.exp(np.cumsum(steps, axis=0)), columns=["AAA", "BBB"])
    frame.insert(0, "date", pd.bdate_range("2021-01-04", periods=300).strftime("%Y-%m-%d"))
    path = tmp_path / "prices.csv"
    frame.to_csv(path, index=False)
    return path


def test_loaded_prices_become_current_and_every_agent_rebuilds_on_them(
    client: SwarmClient, prices: Path, bundled_again: str
) -> None:
    header = client.load_prices(prices)
    assert header.symbols == ("AAA", "BBB") and header.observations == 299
    assert eventually(
        lambda: {found.report.snapshot_id for found in client.health().agents if found.report} == {header.snapshot_id}
    )
    result = client.calculate(Portfolio.equal_weights(["AAA", "BBB"], value=1e6))
    assert result.snapshot_id == header.snapshot_id and result.complete
    assert result.as_of == header.as_of
    returns = pd.read_csv(prices, index_col="date").pct_change().iloc[1:].mean(axis=1)
    worst = result.report("value_at_risk").worst_days[0]
    assert np.isclose(worst.loss, -returns.min(), rtol=1e-12) and worst.date == returns.idxmin()
    with pytest.raises(InvalidPortfolio, match="AAPL"):
        client.calculate(Portfolio.from_weights({"AAPL": 1.0}))
    assert client.calculate(Portfolio.from_weights({"AAPL": 1.0}), "var", snapshot=bundled_again).complete


def test_prices_can_be_loaded_beside_the_current_snapshot(client: SwarmClient, prices: Path) -> None:
    before = client.snapshot().snapshot_id
    header = client.load_prices(prices, make_current=False)
    assert client.snapshot().snapshot_id == before
    result = client.calculate(Portfolio.from_weights({"AAA": 1.0}), "var", snapshot=header.snapshot_id[:12])
    assert result.snapshot_id == header.snapshot_id


def test_volumes_of_a_long_file_reach_the_liquidity_agent(client: SwarmClient, prices: Path, tmp_path: Path) -> None:
    long = pd.read_csv(prices).melt(id_vars="date", var_name="symbol", value_name="price").assign(volume=50_000)
    path = tmp_path / "long.csv"
    long.to_csv(path, index=False)
    header = client.load_prices(path, make_current=False)
    book = Portfolio.from_quantities({"AAA": 10_000})
    result = client.calculate(book, "liquidity", snapshot=header.snapshot_id)
    days = result.estimate("days_to_liquidate")
    assert np.isclose(days.value, 10_000 / (0.1 * 50_000))
    assert result.report("liquidity").covered == 1.0


def _january(ninth: str) -> str:
    days = [f"2020-01-{day:02d},{ninth if day == 9 else day}\n" for day in range(1, 32)]
    return "date,A\n" + "".join(days) + "2020-02-03,4\n"


BAD_PRICES = {"one row": "date,A\n2020-01-02,1.0\n", "nan": _january("nan"), "text": _january("ten"), "empty": ""}


@pytest.mark.parametrize("name", BAD_PRICES)
def test_bad_prices_are_refused_and_the_market_stays_as_it_was(client: SwarmClient, tmp_path: Path, name: str) -> None:
    path = tmp_path / "bad.csv"
    path.write_text(BAD_PRICES[name])
    before = client.snapshots()
    with pytest.raises(InvalidMarketData) as refused:
        client.load_prices(path)
    assert refused.value.remedy and str(path) in str(refused.value)
    assert client.snapshots() == before
    assert agent(client, "market_data").state == "HEALTHY"
