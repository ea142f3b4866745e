"""Every defect put into a clean table is listed by date and symbol, and what is kept is bit for bit the source."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidMarketData
from hive.market.settings import MarketSettings
from hive.market.validation import Table, refuse_unclean, validate

MARKET = MarketSettings()
SYMBOLS = ("AAA", "BBB", "CCC")
ROWS = 120
CELL_DEFECTS = {"missing": np.nan, "text": np.nan, "non_positive": 0.0, "infinite": np.inf, "spike": None}
ROW_DEFECTS = ("unparsable_date", "repeated", "contradicted", "misordered")


def walk(seed: int, rows: int = ROWS) -> tuple[np.ndarray, np.ndarray]:
    steps = np.random.default_rng(seed).normal(0, 0.01, (rows, len(SYMBOLS)))
    days = np.datetime64("2019-12-31") + np.arange(rows)
    return days, 100 * np.exp(steps.cumsum(axis=0))


def table(dates, values, texts=None, symbols=SYMBOLS, volumes=None) -> Table:
    return Table([str(date) for date in dates], tuple(symbols), values, texts or {}, volumes)


# Defects go to every fourth row, so that the neighbours that judge a spike or an order are clean.
places = st.lists(st.sampled_from(range(4, ROWS - 4, 4)), max_size=8, unique=True)
cells = st.tuples(st.sampled_from(sorted(CELL_DEFECTS)), st.integers(0, len(SYMBOLS) - 1))


@settings(max_examples=100)
@given(seed=st.integers(0, 1000), rows=places, data=st.data())
def test_exactly_the_injected_defects_are_listed_and_exactly_their_days_are_gone(seed, rows, data):
    days, prices = walk(seed)
    volumes = np.arange(prices.size, dtype=float).reshape(prices.shape)
    faulty, texts_at, listed, gone, quarantined = prices.copy(), {}, Counter(), set(), set()
    lines = {row: [(str(days[row]), row)] for row in range(ROWS)}  # what stands in the file where row stood
    doubled = set()
    for number, row in enumerate(sorted(rows)):
        date = str(days[row])
        if number < 5:  # five bad cells of about 120 stay below the share that condemns a symbol
            kind, column = data.draw(cells)
            faulty[row, column] = 3 * prices[row, column] if kind == "spike" else CELL_DEFECTS[kind]
            if kind == "text":
                texts_at[row, column] = "n.a.?"
            listed[kind, date, SYMBOLS[column]] += 1
            gone.add(row)
            quarantined.add(date)
            continue
        kind = data.draw(st.sampled_from(ROW_DEFECTS))
        if kind == "unparsable_date":
            lines[row] = [("31/02/2020", row)]
            listed[kind, "31/02/2020", ""] += 1
            gone.add(row)
        elif kind == "misordered":
            lines[row + 2].append(lines[row].pop())
            listed[kind, date, ""] += 1
            gone.add(row)
        else:
            lines[row].append((date, row))
            listed["duplicate", date, ""] += 1 + (kind == "contradicted")
            if kind == "contradicted":
                doubled.add(row)
                gone.add(row)
    file = [line for row in range(ROWS) for line in lines[row]]
    order = [row for _, row in file]
    values = faulty[order]
    for row in doubled:
        values[order.index(row) + 1, 0] += 1.0
    texts = {(order.index(row), column): text for (row, column), text in texts_at.items()}

    source = values.copy()
    valid = validate(
        table([date for date, _ in file], values, texts, volumes=volumes[order]), kind="prices", settings=MARKET
    )

    kept = [row for row in range(ROWS) if row not in gone]
    assert valid.dates.tolist() == days[kept].tolist()
    assert valid.symbols == SYMBOLS
    assert valid.values.tobytes() == prices[kept].tobytes()
    assert valid.volumes.tobytes() == volumes[kept].tobytes()
    assert Counter((defect.kind, defect.date, defect.symbol) for defect in valid.report.defects) == listed
    assert sum(valid.report.counts.values()) == listed.total()
    assert set(valid.report.quarantined_days) == quarantined
    assert valid.report.quarantined_symbols == ()
    assert valid.report.clean == (not rows)
    assert (valid.report.rows_read, valid.report.symbols_read) == (len(file), len(SYMBOLS))
    np.testing.assert_array_equal(values, source)  # the source itself is left alone


@settings(max_examples=40)
@given(seed=st.integers(0, 1000), column=st.integers(0, 2), bad=st.sets(st.integers(0, ROWS - 1), min_size=1))
def test_a_symbol_with_too_many_bad_cells_goes_whole_and_takes_no_day_along(seed, column, bad):
    days, prices = walk(seed)
    faulty = prices.copy()
    faulty[list(bad), column] = np.nan
    valid = validate(table(days, faulty), kind="prices", settings=MARKET)
    if len(bad) / ROWS > MARKET.max_bad_share:
        others = [other for other in range(3) if other != column]
        assert valid.report.quarantined_symbols == (SYMBOLS[column],)
        assert valid.report.quarantined_days == ()
        assert valid.values.tobytes() == prices[:, others].tobytes()
    else:
        assert valid.report.quarantined_symbols == ()
        assert valid.dates.tolist() == np.delete(days, sorted(bad)).tolist()
    assert valid.report.counts == {"missing": len(bad)}


def test_defects_beyond_those_listed_are_still_counted():
    days, prices = walk(1, rows=300)
    prices[:, 1] = -1.0
    report = validate(table(days, prices), kind="prices", settings=MARKET).report
    assert len(report.defects) == 200
    assert report.counts == {"non_positive": 300}


@pytest.mark.parametrize("text", ["", "31/02/2020", "2020-02-30", "nan", "20200102", "2020", "2020-01", "today", "12"])
def test_a_text_that_is_no_iso_date_is_listed_and_its_row_is_gone(text):
    days, prices = walk(2)
    dates = [str(day) for day in days]
    dates[50] = text
    valid = validate(table(dates, prices), kind="prices", settings=MARKET)
    assert [(defect.kind, defect.date) for defect in valid.report.defects] == [("unparsable_date", text)]
    assert valid.dates.tolist() == np.delete(days, 50).tolist()


@pytest.mark.parametrize("suffix", ["", " 00:00:00", "T16:00:00Z"])
def test_a_time_after_the_date_is_dropped(suffix):
    days, prices = walk(3)
    valid = validate(table([f" {day}{suffix}" for day in days], prices), kind="prices", settings=MARKET)
    assert valid.report.clean
    assert valid.dates.tolist() == days.tolist()


def test_a_descending_file_is_refused_as_misordered():
    days, prices = walk(4)
    with pytest.raises(InvalidMarketData, match=r"1 of 120 rows pass validation \(119 misordered\)") as refusal:
        validate(table(days[::-1], prices[::-1]), kind="prices", settings=MARKET)
    assert "31 clean rows" in refusal.value.remedy


def test_rows_that_contradict_each_other_all_go_and_a_nan_does_not_contradict_itself():
    days, prices = walk(5)
    prices[10, 0] = np.nan
    twice = np.insert(np.arange(ROWS), [10, 20, 20], [10, 20, 20])
    values = prices[twice]
    values[np.flatnonzero(twice == 20)[2], 1] *= 1.001
    valid = validate(table(days[twice], values), kind="prices", settings=MARKET)
    assert valid.report.counts == {"duplicate": 4, "missing": 1}
    assert valid.dates.tolist() == np.delete(days, [10, 20]).tolist()


@pytest.mark.parametrize(("kind", "rows"), [("prices", 30), ("returns", 29), ("prices", 1), ("prices", 0)])
def test_too_few_rows_are_refused_with_the_number_needed(kind, rows):
    days, prices = walk(6)
    with pytest.raises(InvalidMarketData, match=f"has {rows} row") as refusal:
        validate(table(days[:rows], prices[:rows] / 1e4), kind=kind, settings=MARKET)
    assert refusal.value.remedy == f"Give at least {30 + (kind == 'prices')}"
    enough = 30 + (kind == "prices")
    assert len(validate(table(days[:enough], prices[:enough] / 1e4), kind=kind, settings=MARKET).dates) == enough


@pytest.mark.parametrize(
    ("symbols", "named"), [(("AAA", "BBB", "AAA"), "AAA"), (("AAA", " ", "CCC"), "no symbol"), ((), "no symbol")]
)
def test_bad_symbols_are_refused_and_named(symbols, named):
    days, prices = walk(7)
    with pytest.raises(InvalidMarketData, match=named):
        validate(table(days, prices[:, : len(symbols)], symbols=symbols), kind="prices", settings=MARKET)


def test_more_symbols_than_allowed_are_refused():
    days, prices = walk(8)
    with pytest.raises(InvalidMarketData, match=r"3 symbols .*are more than the 2 allowed"):
        validate(table(days, prices), kind="prices", settings=MarketSettings(max_symbols=2))


def test_a_table_without_one_good_row_or_symbol_is_refused():
    days, prices = walk(9)
    for bad in (table(["?"] * ROWS, prices), table(days, prices * np.nan)):
        with pytest.raises(InvalidMarketData, match="0 of 120 rows"):
            validate(bad, kind="prices", settings=MARKET)


def test_returns_given_as_prices_are_refused_with_a_hint():
    days, _ = walk(10)
    returns = np.random.default_rng(1).normal(0, 0.01, (ROWS, 3))
    with pytest.raises(InvalidMarketData, match="say --kind returns"):
        validate(table(days, returns), kind="prices", settings=MARKET)
    assert validate(table(days, returns), kind="returns", settings=MARKET).values.tobytes() == returns.tobytes()


def test_a_large_move_that_stays_and_a_long_gap_are_kept_and_flagged():
    days, prices = walk(11)
    prices[60:, 2] *= 0.3
    days = days + np.where(np.arange(ROWS) >= 80, 8, 0)
    valid = validate(table(days, prices), kind="prices", settings=MARKET)
    assert valid.report.clean
    assert valid.values.tobytes() == prices.tobytes()
    gap, move = valid.report.flags
    assert gap == f"gap of 9 calendar days before {days[80]}"
    assert move.startswith("CCC moved -")
    assert move.endswith(f"on {days[60]}")


def test_returns_of_minus_one_and_less_are_impossible_and_a_large_one_that_stays_is_flagged():
    days, returns = walk(12)
    returns = returns / 1e4
    returns[40, 0], returns[50, 1], returns[70, 2] = -1.0, -1.5, 0.8
    valid = validate(table(days, returns), kind="returns", settings=MARKET)
    assert valid.report.counts == {"impossible_return": 2}
    assert valid.values.tobytes() == np.delete(returns, [40, 50], axis=0).tobytes()
    assert valid.report.flags == (f"CCC moved +80.0% on {days[70]}",)


def test_a_bad_tick_in_returns_goes_with_the_return_that_undoes_it():
    days, _ = walk(13)
    returns = np.random.default_rng(2).normal(0, 0.01, (ROWS, 3))
    returns[60, 0], returns[61, 0] = 2.0, 1 / 3 - 1
    valid = validate(table(days, returns), kind="returns", settings=MARKET)
    assert valid.report.counts["spike"] >= 1
    assert np.abs(valid.values).max() < 0.1  # as when the same tick stands in a table of prices


def test_unclean_data_is_refused_with_the_first_defect_and_both_counts():
    days, prices = walk(14)
    prices[30, 1], prices[:60, 2] = np.inf, np.nan
    report = validate(table(days, prices), kind="prices", settings=MARKET).report
    with pytest.raises(InvalidMarketData) as refusal:
        refuse_unclean(report, "desk.csv")
    assert "desk.csv has 60 missing, 1 infinite" in refusal.value.problem
    assert f"missing at {days[0]} CCC" in refusal.value.problem
    assert "1 rows and 1 symbols" in refusal.value.remedy
    refuse_unclean(validate(table(*walk(14)), kind="prices", settings=MARKET).report, "clean.csv")
