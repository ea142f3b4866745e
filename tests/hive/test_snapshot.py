"""A snapshot is its content: named by it, never written to, and cut without a look ahead."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidMarketData, UnknownSnapshot
from hive.market.snapshot import FactorPanel, MarketSnapshot, QualityReport, SnapshotHeader, mean_volumes, returns_of

CUT = {"min_observations": 5, "volume_days": 3}
DAYS = 40
ALL_DAYS = np.busday_offset(np.datetime64("2021-01-04"), np.arange(DAYS + 1), roll="forward")


def snapshot(seed: int = 0, *, changed_after: int = DAYS, other: int = 0, days: int = DAYS) -> MarketSnapshot:
    """Prices, volumes, index and factors of ``seed`` up to the return ``changed_after`` and of ``other`` from there."""

    def drawn(columns: int) -> np.ndarray:
        first, second = (np.random.default_rng(s).normal(0, 0.01, (DAYS + 1, columns)) for s in (seed, other + 1000))
        first[changed_after + 1 :] = second[changed_after + 1 :]
        return 100 * np.exp(first.cumsum(axis=0))[: days + 1]

    dates, prices, volumes = ALL_DAYS[: days + 1].copy(), drawn(3), drawn(3)[1:]
    return MarketSnapshot(
        source=f"seed {seed}",
        currency="USD",
        symbols=("AAA", "BBB", "CCC"),
        base_date=str(dates[0]),
        dates=dates[1:],
        returns=returns_of(prices),
        prices=prices,
        last_prices=prices[-1].copy(),
        volumes=volumes,
        average_volumes=mean_volumes(volumes, CUT["volume_days"]),
        index_name="IDX",
        index_returns=returns_of(drawn(1))[:, 0],
        factors=FactorPanel(("f",), dates[6:].copy(), returns_of(drawn(1))[5:]),
    )


@pytest.mark.parametrize(
    "name",
    ["dates", "returns", "prices", "last_prices", "volumes", "average_volumes", "index_returns", "factors"],
)
def test_the_id_depends_on_every_array(name):
    original = snapshot()
    if name == "factors":
        returns = original.factors.returns.copy()
        returns[3] += 1e-12
        changed = dataclasses.replace(original.factors, returns=returns)
    else:
        changed = getattr(original, name).copy()
        changed[1] += 1 if name == "dates" else 1e-9
    assert dataclasses.replace(original, **{name: changed}).content_id != original.content_id


@pytest.mark.parametrize(
    "change", [{"currency": "EUR"}, {"symbols": ("AAA", "BBB", "DDD")}, {"base_date": "2021-01-03"}, {"index_name": ""}]
)
def test_the_id_depends_on_names_and_currency(change):
    assert dataclasses.replace(snapshot(), **change).content_id != snapshot().content_id


def test_the_id_does_not_depend_on_the_label_of_the_source_or_on_its_quality_report():
    same = dataclasses.replace(snapshot(), source="another", quality=QualityReport(rows_read=7))
    assert same.content_id == snapshot().content_id
    assert len(same.content_id) == 64


@pytest.mark.parametrize(
    "name", ["dates", "returns", "prices", "last_prices", "volumes", "average_volumes", "index_returns"]
)
def test_an_array_of_a_snapshot_cannot_be_written_to(name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(snapshot(), name)[0] = 0


@pytest.mark.parametrize("name", ["dates", "returns"])
def test_an_array_of_the_factors_cannot_be_written_to(name):
    with pytest.raises(ValueError, match="read-only"):
        getattr(snapshot().factors, name)[0] = 0


@settings(max_examples=60)
@given(last=st.integers(8, DAYS - 2), other=st.integers(0, 99), beyond=st.integers(0, 2))
def test_nothing_after_the_date_reaches_the_cut(last, other, beyond):
    original, changed = snapshot(), snapshot(changed_after=last, other=other)
    date = original.dates[last - 1] + min(
        beyond, int((original.dates[last] - original.dates[last - 1]).astype(int)) - 1
    )
    cut = original.until(str(date), **CUT)
    assert original.content_id != changed.content_id
    assert cut.content_id == changed.until(str(date), **CUT).content_id
    assert cut.as_of == str(original.dates[last - 1])
    assert cut.last_prices.tolist() == original.prices[last].tolist()
    assert cut.average_volumes.tolist() == original.volumes[last - 3 : last].mean(axis=0).tolist()
    assert cut.factors.dates[-1] <= date


@settings(max_examples=30)
@given(first=st.integers(20, DAYS - 2), second=st.integers(6, 19))
def test_a_cut_of_a_cut_is_the_cut(first, second):
    whole = snapshot()
    early, late = str(whole.dates[second]), str(whole.dates[first])
    assert whole.until(late, **CUT).until(early, **CUT).content_id == whole.until(early, **CUT).content_id


def test_a_cut_is_what_had_been_loaded_on_that_day():
    assert snapshot().until(str(ALL_DAYS[20]), **CUT).content_id == snapshot(days=20).content_id


def test_a_cut_at_the_last_date_is_the_snapshot_itself():
    whole = snapshot()
    assert whole.until(whole.as_of, **CUT) is whole


def test_a_cut_before_the_first_factor_has_no_factors():
    assert snapshot().until(str(ALL_DAYS[5]), **CUT).factors is None


@pytest.mark.parametrize(
    "date",
    [
        *("2020-12-31", "2021-01-04", str(ALL_DAYS[4]), str(ALL_DAYS[-1] + 1)),
        *("nonsense", "", "NaT", "2021-02-30", "04.02.2021", "2021-02", "2021", "20210204"),
    ],
)
def test_a_date_outside_the_data_or_no_date_is_refused_and_named(date):
    with pytest.raises(UnknownSnapshot) as refusal:
        snapshot().until(date, **CUT)
    assert date in refusal.value.problem
    assert refusal.value.remedy


def test_a_header_says_what_the_snapshot_holds():
    whole = snapshot()
    header = SnapshotHeader.of(whole, whole.content_id)
    assert (header.first_date, header.as_of, header.observations) == (str(ALL_DAYS[1]), str(ALL_DAYS[-1]), DAYS)
    assert header.factors == ("f",)


def test_a_volume_that_is_unknown_for_some_days_is_the_mean_of_the_others():
    volumes = np.array([[9.0, 9.0], [1.0, np.nan], [3.0, np.nan], [np.nan, np.nan]])
    np.testing.assert_array_equal(mean_volumes(volumes, 3), [2.0, np.nan])


def test_one_row_of_prices_gives_no_return():
    with pytest.raises(InvalidMarketData, match="1 row"):
        returns_of(np.ones((1, 2)))
