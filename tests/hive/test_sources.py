"""Files of every form become the snapshot their numbers say, and the bundled data is skfolio's own."""

from __future__ import annotations

import gzip

import numpy as np
import pandas as pd
import pytest

from cluster.errors import InvalidMarketData
from hive.market.settings import MarketSettings
from hive.market.sources import bundled, from_file, read_table
from hive.market.validation import Table, validate

MARKET = MarketSettings(min_observations=5, volume_days=3)
DAYS = 12


@pytest.fixture(scope="module")
def frame():
    generator = np.random.default_rng(3)
    prices = 100 * np.exp(generator.normal(0, 0.01, (DAYS, 3)).cumsum(axis=0))
    return pd.DataFrame(prices, index=pd.bdate_range("2021-01-04", periods=DAYS), columns=["AAA", "BBB", "CCC"])


@pytest.fixture(scope="module")
def sp20():
    return bundled(MarketSettings())


def wide_lines(frame):
    yield ",".join(["date", *frame.columns])
    for day, row in frame.iterrows():
        yield ",".join([str(day.date()), *map(repr, row.tolist())])


def long_lines(frame, value="price"):
    yield f"Symbol,Date,{value},volume"
    for number, (day, row) in enumerate(frame.iterrows()):
        for symbol, price in row.items():
            yield f"{symbol},{day.date()},{price!r},{1000 + number}"


def written(path, lines):
    text = "\n".join(lines) + "\n"
    path.write_bytes(gzip.compress(text.encode()) if path.suffix == ".gz" else text.encode())
    return path


def test_every_form_of_file_gives_the_same_data_bit_for_bit(tmp_path, frame):
    named, dated = tmp_path / "named.parquet", tmp_path / "dated.parquet"
    frame.rename_axis("day").to_parquet(named)
    frame.rename_axis("date").reset_index().to_parquet(dated, index=False)
    unnamed = tmp_path / "unnamed.parquet"
    frame.to_parquet(unnamed)
    wide = [written(tmp_path / name, wide_lines(frame)) for name in ("wide.csv", "wide.csv.gz")]
    snapshots = [from_file(path, settings=MARKET) for path in (named, dated, unnamed, *wide)]
    assert len({snapshot.content_id for snapshot in snapshots}) == 1
    first = snapshots[0]
    assert first.prices.tobytes() == frame.to_numpy().tobytes()
    assert first.returns.tobytes() == (first.prices[1:] / first.prices[:-1] - 1).tobytes()
    assert first.last_prices.tolist() == frame.iloc[-1].tolist()
    assert (first.base_date, first.as_of) == ("2021-01-04", str(frame.index[-1].date()))
    assert first.volumes is None
    assert {snapshot.source for snapshot in snapshots} == {
        "named.parquet",
        "dated.parquet",
        "unnamed.parquet",
        "wide.csv",
        "wide.csv.gz",
    }


@pytest.mark.parametrize("value", ["price", "close", "Adj_Close"])
def test_a_long_table_is_spread_with_its_volumes(tmp_path, frame, value):
    snapshot = from_file(written(tmp_path / "long.csv", long_lines(frame, value)), settings=MARKET)
    assert snapshot.symbols == ("AAA", "BBB", "CCC")
    assert snapshot.prices.tobytes() == frame.to_numpy().tobytes()
    assert snapshot.volumes[:, 0].tolist() == [1000 + number for number in range(1, DAYS)]
    assert snapshot.average_volumes.tolist() == [1000 + DAYS - 2] * 3


def test_a_pair_of_date_and_symbol_that_appears_twice_is_found(tmp_path, frame):
    lines = list(long_lines(frame))
    symbol, date, _, volume = lines[13].split(",")
    path = written(tmp_path / "long.csv", [*lines, f"{symbol},{date},1.5,{volume}"])
    with pytest.raises(InvalidMarketData, match=f"2 duplicate; the first is duplicate at {date}"):
        from_file(path, settings=MARKET)
    snapshot = from_file(path, accept_quarantine=True, settings=MARKET)
    assert snapshot.prices.tobytes() == frame.drop(pd.Timestamp(date)).to_numpy().tobytes()


def test_a_hole_in_a_long_table_is_missing_and_not_filled(tmp_path, frame):
    lines = list(long_lines(frame))
    symbol, date, *_ = lines.pop(11).split(",")
    path = written(tmp_path / "long.csv", lines)
    with pytest.raises(InvalidMarketData, match=f"1 missing; the first is missing at {date} {symbol}: no value"):
        from_file(path, settings=MARKET)


@pytest.mark.parametrize("volume", ["-5", "inf"])
def test_an_impossible_volume_is_listed(tmp_path, frame, volume):
    lines = list(long_lines(frame))
    lines[20] = lines[20].rsplit(",", 1)[0] + "," + volume
    with pytest.raises(InvalidMarketData, match=lines[20].split(",")[1]):
        from_file(written(tmp_path / "long.csv", lines), settings=MARKET)


def test_text_empty_and_infinite_cells_are_told_apart(tmp_path, frame):
    lines = list(wide_lines(frame))
    for row, cell in ((3, "n/a"), (4, ""), (5, '"1,234"'), (6, "inf"), (7, "-3")):
        lines[row] = f"{lines[row].split(',')[0]},{cell},50.0,60.0"
    settings = MarketSettings(min_observations=2, max_bad_share=0.9)
    report = from_file(written(tmp_path / "w.csv", lines), accept_quarantine=True, settings=settings).quality
    assert [(defect.kind, defect.found) for defect in report.defects if defect.symbol == "AAA"] == [
        ("missing", "no value"),
        ("missing", "no value"),
        ("text", "'1,234'"),
        ("infinite", "inf"),
        ("non_positive", "-3"),
    ]


def test_a_quarantine_is_an_error_until_it_is_accepted(tmp_path, frame):
    holed = frame.copy()
    holed.iloc[4, 1] = np.nan
    path = tmp_path / "holed.parquet"
    holed.to_parquet(path)
    settings = MarketSettings(min_observations=5, max_bad_share=0.2)
    with pytest.raises(InvalidMarketData, match=r"--accept-quarantine"):
        from_file(path, settings=settings)
    snapshot = from_file(path, accept_quarantine=True, settings=settings)
    assert snapshot.prices.tobytes() == frame.drop(frame.index[4]).to_numpy().tobytes()
    assert snapshot.quality.quarantined_days == (str(frame.index[4].date()),)


def test_returns_are_kept_as_given_and_have_no_prices(tmp_path, frame):
    returns = frame.pct_change().iloc[1:]
    returns.to_parquet(tmp_path / "r.parquet")
    snapshot = from_file(tmp_path / "r.parquet", kind="returns", settings=MARKET)
    assert snapshot.returns.tobytes() == returns.to_numpy().tobytes()
    assert snapshot.prices is snapshot.last_prices is None
    assert snapshot.base_date == str(snapshot.dates[0]) == str(returns.index[0].date())


@pytest.mark.parametrize("kind", ["prices", "returns"])
def test_the_index_column_is_taken_out_of_the_assets(tmp_path, frame, kind):
    given = frame if kind == "prices" else frame.pct_change().iloc[1:]
    given.to_parquet(tmp_path / "x.parquet")
    snapshot = from_file(tmp_path / "x.parquet", kind=kind, index="BBB", settings=MARKET)
    assert snapshot.symbols == ("AAA", "CCC")
    assert (snapshot.index_name, snapshot.returns.shape) == ("BBB", (DAYS - 1, 2))
    np.testing.assert_allclose(snapshot.index_returns, frame.BBB.pct_change().iloc[1:], atol=1e-15)


def test_an_index_that_is_not_there_or_alone_is_refused(tmp_path, frame):
    frame[["BBB"]].to_parquet(tmp_path / "x.parquet")
    with pytest.raises(InvalidMarketData, match="no column SPX"):
        from_file(tmp_path / "x.parquet", index="SPX", settings=MARKET)
    with pytest.raises(InvalidMarketData, match="index BBB alone"):
        from_file(tmp_path / "x.parquet", index="BBB", settings=MARKET)


GOOD = "date,AAA\n" + "".join(f"2021-01-{day:02},{day}.5\n" for day in range(1, 11))
FILES = {
    "missing.csv": None,
    "missing.parquet": None,
    "prices.xlsx": b"x",
    "empty.csv": b"",
    "header_only.csv": b"date,AAA\n",
    "one_column.csv": b"date\n2021-01-04\n",
    "one_row.csv": b"date,AAA\n2021-01-04,1.0\n",
    "binary.csv": b"\xff\xfe\x00\x81,\n",
    "ragged.csv": (GOOD + "2021-01-11,1,2,3\n").encode(),
    "a_field_too_many_throughout.csv": GOOD.replace(".5\n", ".5,7\n").encode(),
    "broken.parquet": b"PAR1 and nothing more",
    "no_gzip.csv.gz": b"date,AAA",
    "cut_off.csv.gz": gzip.compress(GOOD.encode() * 50, mtime=0)[:-40],
    "no_values.csv": b"date,symbol,colour\n2021-01-04,AAA,1\n",
    "twin_columns.csv": GOOD.replace("AAA\n", "AAA,AAA\n").replace(".5\n", ".5,7\n").encode(),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_with_a_remedy(tmp_path, name):
    if FILES[name] is not None:
        (tmp_path / name).write_bytes(FILES[name])
    with pytest.raises(InvalidMarketData) as refusal:
        from_file(tmp_path / name, settings=MARKET)
    assert refusal.value.remedy


def test_a_table_is_read_as_it_is_without_judgement(tmp_path):
    table = read_table(written(tmp_path / "w.csv", ["date, AAA ,BBB", "2021-01-05 16:00,x,1e1", "?,,-7"]))
    assert isinstance(table, Table)
    assert (table.dates, table.symbols, table.texts) == (["2021-01-05", "?"], ("AAA", "BBB"), {(0, 0): "x"})
    np.testing.assert_array_equal(table.values, [[np.nan, 10.0], [np.nan, -7.0]])


def test_the_bundled_data_is_what_it_was(sp20):
    assert sp20.prices.shape == (8313, 20)
    assert sp20.returns.shape == (8312, 20)
    assert (sp20.base_date, sp20.as_of) == ("1990-01-02", "2022-12-28")
    equal = sp20.returns.mean(axis=1)
    assert equal.mean() == pytest.approx(7.34849e-4, rel=1e-6)
    assert equal.std(ddof=1) == pytest.approx(0.0119277444, rel=1e-8)
    assert sp20.quality.clean
    assert any("RRC moved -66.7%" in flag for flag in sp20.quality.flags)
    assert sp20.returns[:, sp20.symbols.index("RRC")].min() == pytest.approx(-2 / 3, abs=1e-3)


def test_the_bundled_data_agrees_exactly_with_skfolio(sp20):
    from skfolio.datasets import load_factors_dataset, load_sp500_dataset, load_sp500_index

    stocks, index, factors = load_sp500_dataset(), load_sp500_index(), load_factors_dataset()
    assert sp20.symbols == tuple(stocks.columns)
    assert sp20.prices.tobytes() == stocks.to_numpy().tobytes()
    assert sp20.dates.tolist() == [day.date() for day in stocks.index[1:]]
    for ours, theirs in (
        (sp20.returns, stocks),
        (sp20.index_returns, index.iloc[:, 0]),
        (sp20.factors.returns, factors),
    ):
        np.testing.assert_array_equal(ours, theirs.pct_change().iloc[1:].to_numpy())
    assert sp20.factors.dates.tolist() == [day.date() for day in factors.index[1:]]
    assert sp20.factors.names == tuple(factors.columns)


def test_a_snapshot_of_the_bundled_prices_from_a_file_has_the_same_prices(tmp_path, sp20):
    days = [sp20.base_date, *map(str, sp20.dates[:600])]
    frame = pd.DataFrame(sp20.prices[:601], index=pd.to_datetime(days), columns=sp20.symbols)
    read = from_file(written(tmp_path / "sp20.csv", wide_lines(frame)), settings=MARKET)
    assert read.prices.tobytes() == sp20.prices[:601].tobytes()
    assert validate(read_table(tmp_path / "sp20.csv"), kind="prices", settings=MARKET).report.clean
