"""A portfolio is refused with its reason and remedy, read alike from every kind of file, and priced by the book."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cluster.errors import InvalidPortfolio
from hive.messages.mandate import FundingFlow, Limits, Mandate, View
from hive.messages.portfolio import Portfolio, Position, resolve

moderately = settings(max_examples=80)
symbols = st.text(st.characters(min_codepoint=33, max_codepoint=0x24F, exclude_categories=["C", "Z"]), min_size=1)
amounts = st.floats(-1e9, 1e9).filter(lambda number: abs(number) > 1e-6)
positive = st.floats(1e-3, 1e6)


@st.composite
def portfolios(draw):
    names = draw(st.lists(symbols, min_size=1, max_size=6, unique=True))
    weighted, cash = draw(st.booleans()), draw(st.none() | st.floats(-0.5, 0.5))
    sizes = draw(st.lists(st.floats(0.01, 1.0), min_size=len(names), max_size=len(names)))
    sizes = [size / sum(sizes) * (1 - (cash or 0.0)) for size in sizes] if weighted else sizes
    optional = {key: st.none() | positive for key in ("price", "average_daily_volume")}
    positions = tuple(
        Position(
            symbol=name,
            **{"weight" if weighted else "quantity": size},
            **{key: draw(choice) for key, choice in optional.items()},
            multiplier=draw(positive),
            spread=draw(st.none() | st.floats(0, 0.99)),
            currency="EUR",
        )
        for name, size in zip(names, sizes, strict=True)
    )
    return Portfolio(
        positions=positions, name=draw(symbols), currency="EUR", value=draw(st.none() | positive), cash=cash
    )


def line(**fields):
    return {"positions": [{"symbol": "AAA", **fields}]}


def two(first, second, **header):
    return {"positions": [{"symbol": "AAA", **first}, {"symbol": "BBB", **second}], **header}


half = {"weight": 0.5}
REFUSED = {
    "no_positions": ({"positions": []}, "empty"),
    "no_list_of_positions": ({}, "positions"),
    "text_for_positions": ({"positions": "AAA"}, "positions"),
    "text_for_a_position": ({"positions": ["AAA"]}, "'AAA'"),
    "unknown_header_key": ({**line(weight=1.0), "cahs": 0.1}, "'cahs'"),
    "unknown_position_key": (line(wieght=1.0), "'wieght'"),
    "no_symbol": ({"positions": [{"weight": 1.0}]}, "symbol"),
    "blank_symbol": ({"positions": [{"symbol": "  ", "weight": 1.0}]}, "'  '"),
    "number_for_symbol": ({"positions": [{"symbol": 7, "weight": 1.0}]}, "7"),
    "same_symbol_twice": ({"positions": [{"symbol": "AAA", **half}, {"symbol": "AAA", **half}]}, "AAA"),
    "weight_and_quantity": (line(weight=1.0, quantity=1.0), "both"),
    "neither_weight_nor_quantity": (line(price=1.0), "neither"),
    "weights_beside_quantities": (two(half, {"quantity": 1.0}), "quantities"),
    "weights_that_miss_one": (two(half, {"weight": 0.4}), "0.900000"),
    "weights_that_miss_one_with_cash": (two(half, {"weight": 0.4}, cash=0.05), "0.950000"),
    "weights_that_are_nan": (line(weight=math.nan), "nan"),
    "infinite_weight": (line(weight=math.inf), "inf"),
    "text_weight": (line(weight="1.0"), "'1.0'"),
    "truth_for_a_weight": (line(weight=True), "True"),
    "numpy_truth_for_a_weight": (line(weight=np.bool_(True)), "True"),
    "list_for_a_weight": (line(weight=[1.0]), "[1.0]"),
    "integer_beyond_floats": (line(weight=10**400), "AAA"),
    "infinite_quantity": (line(quantity=-math.inf), "-inf"),
    "zero_price": (line(quantity=1.0, price=0.0), "price of AAA"),
    "negative_price": (line(quantity=1.0, price=-3.0), "-3"),
    "text_price": (line(quantity=1.0, price="12,5"), "'12,5'"),
    "zero_multiplier": (line(weight=1.0, multiplier=0), "multiplier"),
    "no_multiplier": (line(weight=1.0, multiplier=None), "multiplier"),
    "negative_volume": (line(weight=1.0, average_daily_volume=-1.0), "average_daily_volume"),
    "spread_of_one": (line(weight=1.0, spread=1.0), "spread"),
    "negative_spread": (line(weight=1.0, spread=-0.1), "spread"),
    "zero_value": ({**line(weight=1.0), "value": 0}, "value 0"),
    "negative_value": ({**line(weight=1.0), "value": -5.0}, "-5"),
    "text_value": ({**line(weight=1.0), "value": "1e6"}, "'1e6'"),
    "nan_value": ({**line(weight=1.0), "value": math.nan}, "nan"),
    "infinite_cash": ({**line(quantity=1.0), "cash": math.inf}, "cash"),
    "truth_for_cash": ({**line(quantity=1.0), "cash": True}, "cash"),
    "gamma_of_text": (line(weight=1.0, gamma="much"), "gamma"),
    "lot_of_zero": (line(weight=1.0, lot=0), "lot"),
    "negative_depth": (line(weight=1.0, depth=-1.0), "depth"),
    "number_for_a_group": (line(weight=1.0, group=3), "group"),
    "peak_below_value": ({**line(weight=1.0), "value": 2.0, "peak_value": 1.0}, "peak"),
    "limit_of_zero": ({**line(weight=1.0), "limits": {"var": 0}}, "var"),
    "unknown_limit": ({**line(weight=1.0), "limits": {"vra": 0.02}}, "vra"),
    "mandate_of_text": ({**line(weight=1.0), "mandate": "long only"}, "mandate"),
    "bounds_crossed": ({**line(weight=1.0), "mandate": {"bounds": {"AAA": [0.2, 0.1]}}}, "AAA"),
    "view_without_return": ({**line(weight=1.0), "mandate": {"views": [{"weights": {"AAA": 1}}]}}, "view"),
    "budgets_beyond_one": ({**line(weight=1.0), "mandate": {"risk_budgets": {"AAA": 1.1}}}, "budget"),
    "negative_outflow": ({**line(weight=1.0), "funding": [{"tenor_days": 1, "outflow": -1}]}, "outflow"),
    "null_for_a_currency": (line(weight=1.0, currency=None), "currency"),
    "number_for_a_name": ({**line(weight=1.0), "name": 5}, "5"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_bad_input_is_refused_by_name_and_with_a_remedy(case):
    fields, named = REFUSED[case]
    with pytest.raises(InvalidPortfolio) as refusal:
        Portfolio.from_dict(fields)
    assert named in refusal.value.problem
    assert refusal.value.remedy
    assert refusal.value.remedy in str(refusal.value)


def test_weights_that_miss_one_are_refused_with_the_cash_that_would_fill_the_gap():
    with pytest.raises(InvalidPortfolio, match=r"cash = 0\.100000"):
        Portfolio.from_weights({"AAA": 0.5, "BBB": 0.4}, cash=0.05)
    assert Portfolio.from_weights({"AAA": 0.5, "BBB": 0.4}, cash=0.1).cash == 0.1


@pytest.mark.parametrize("make", [Portfolio.from_weights, Portfolio.from_quantities])
def test_no_positions_are_refused_by_every_constructor(make):
    with pytest.raises(InvalidPortfolio, match="empty"):
        make({})
    with pytest.raises(InvalidPortfolio, match="empty"):
        Portfolio.equal_weights([])


@pytest.mark.parametrize("number", [np.float64(1), np.float32(1), np.int64(1), 1], ids=type)
def test_numpy_and_whole_numbers_make_the_same_portfolio_as_floats(number):
    plain = Portfolio(positions=(Position(symbol="AAA", weight=1.0),))
    assert Portfolio.from_weights({"AAA": number}) == plain
    direct = Portfolio(positions=(Position(symbol="AAA", weight=number),))
    assert json.loads(json.dumps(direct.to_dict())) == direct.to_dict()
    assert direct == plain


@moderately
@given(portfolios())
def test_a_portfolio_survives_plain_data_and_json(portfolio):
    assert Portfolio.from_dict(portfolio.to_dict()) == portfolio
    assert Portfolio.from_dict(json.loads(json.dumps(portfolio.to_dict()))) == portfolio


@pytest.mark.parametrize("number", ["3", "3.0", "-2.5e2"])
def test_every_kind_of_file_gives_the_same_portfolio(tmp_path, number):
    csv, toml, js = (tmp_path / f"desk.{suffix}" for suffix in ("csv", "toml", "json"))
    csv.write_text(f"symbol, quantity, price, spread\nAAA, {number}, 10.5,\nBBB, 1.0,, 0.001\n")
    toml.write_text(
        f'[[positions]]\nsymbol = "AAA"\nquantity = {number}\nprice = 10.5\n'
        '[[positions]]\nsymbol = "BBB"\nquantity = 1.0\nspread = 0.001\n'
    )
    js.write_text(
        f'{{"positions": [{{"symbol": "AAA", "quantity": {number}, "price": 10.5}},'
        '{"symbol": "BBB", "quantity": 1.0, "spread": 0.001}]}'
    )
    read = [Portfolio.from_file(path) for path in (csv, toml, js)]
    assert read[0].name == "desk"
    assert read[0].positions[0].quantity == float(number)
    assert read[0] == read[1] == read[2]


def test_a_spreadsheets_byte_order_mark_is_no_part_of_the_first_column(tmp_path):
    path = tmp_path / "desk.csv"
    path.write_text("symbol,weight\nAAA,1\n", encoding="utf-8-sig")
    assert Portfolio.from_file(path) == Portfolio.from_weights({"AAA": 1.0}, name="desk")


FILES = {
    "missing.csv": (None, "missing.csv"),
    "desk.xlsx": ("x", "desk.xlsx"),
    "broken.json": ('{"positions": [', "broken.json"),
    "list.json": ("[1, 2]", "list.json"),
    "broken.toml": ("positions = [", "broken.toml"),
    "empty.csv": ("", "symbol"),
    "headless.csv": ("AAA,1.0\n", "symbol"),
    "no_lines.csv": ("symbol,weight\n", "empty"),
    "too_many.csv": ("symbol,weight\nAAA,0.5\nBBB,0,5\n", "line 3"),
    "text.csv": ("symbol,weight\nAAA,half\n", "'half'"),
    "grouped.csv": ('symbol,quantity\nAAA,"1,000"\n', "'1,000'"),
    "unknown_column.csv": ("symbol,weight,colour\nAAA,1,2\n", "'colour'"),
    "same_column_twice.csv": ("symbol,weight,weight\nAAA,0.5,1.0\n", "weight"),
    "nan.csv": ("symbol,weight\nAAA,nan\n", "nan"),
    "too_few.csv": ("symbol,price,weight\nAAA,1.0\n", "AAA"),
    "binary.csv": (b"\xff\xfe\x00symbol", "binary.csv"),
    "unclosed_quote.csv": ('symbol,weight\n"' + "A" * 200_000, "unclosed_quote.csv"),
}


@pytest.mark.parametrize("name", FILES)
def test_a_bad_file_is_refused_by_name_and_with_a_remedy(tmp_path, name):
    content, named = FILES[name]
    if content is not None:
        (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InvalidPortfolio) as refusal:
        Portfolio.from_file(tmp_path / name)
    assert named in refusal.value.problem
    assert refusal.value.remedy


MARKET = {"symbols": ("AAA", "BBB", "CCC"), "currency": "USD", "last_prices": np.array([10.0, 20.0, np.nan])}
VOLUMES = np.array([1e6, np.nan, 3e6])


def test_a_symbol_the_snapshot_lacks_is_refused_and_named():
    with pytest.raises(InvalidPortfolio, match="no X0, X1, X2, X3, X4 and 2 more"):
        resolve(Portfolio.equal_weights(["AAA", *(f"X{number}" for number in range(7))]), **MARKET)


def test_a_portfolio_in_another_currency_than_the_snapshot_is_refused():
    with pytest.raises(InvalidPortfolio, match=r"EUR.*USD"):
        resolve(Portfolio.from_weights({"AAA": 1.0}, currency="EUR"), **MARKET)


@pytest.mark.parametrize("market", [MARKET, {**MARKET, "last_prices": None}], ids=["unknown", "returns_only"])
def test_quantities_without_a_price_are_refused_and_weights_are_not(market):
    with pytest.raises(InvalidPortfolio, match="CCC"):
        resolve(Portfolio.from_quantities({"CCC": 5.0}), **market)
    book = resolve(Portfolio.from_weights({"CCC": 1.0}), **market)
    assert np.isnan(book.unit_exposures).all()
    assert book.value is None


@pytest.mark.parametrize("short", [-2.0, -3.0])
def test_long_short_quantities_without_equity_are_refused_until_value_is_stated(short):
    quantities = {"AAA": 4.0, "BBB": short}  # worth 40 against 40 or 60
    with pytest.raises(InvalidPortfolio, match="State its equity as `value`"):
        resolve(Portfolio.from_quantities(quantities), **MARKET)
    stated = resolve(Portfolio.from_quantities(quantities, value=100.0), **MARKET)
    assert stated.weights.tolist() == [40.0 / 100.0, 20.0 * short / 100.0]
    assert resolve(Portfolio.from_quantities(quantities, cash=70.0), **MARKET).value == 70.0 + 40.0 + 20.0 * short


def test_stated_prices_volumes_and_multipliers_come_before_the_snapshots():
    portfolio = Portfolio(
        positions=(
            Position(symbol="BBB", quantity=3.0, price=25.0, multiplier=2.0, average_daily_volume=7.0, spread=0.001),
            Position(symbol="AAA", quantity=-2.0),
            Position(symbol="CCC", quantity=1.0, price=70.0),
        )
    )
    book = resolve(portfolio, **MARKET, average_volumes=VOLUMES)
    assert book.symbols == ("BBB", "AAA", "CCC")
    assert book.unit_exposures.tolist() == [50.0, 10.0, 70.0]
    assert book.value == 3 * 25.0 * 2 - 2 * 10.0 + 70.0
    np.testing.assert_array_equal(book.weights, np.array([150.0, -20.0, 70.0]) / 200.0)
    np.testing.assert_array_equal(book.volumes, [7.0, 1e6, 3e6])
    np.testing.assert_array_equal(book.spreads, [0.001, np.nan, np.nan])


@moderately
@given(
    st.dictionaries(st.sampled_from(["AAA", "BBB"]), amounts, min_size=1),
    st.none() | amounts,
    st.none() | st.floats(1, 1e9),
)
def test_weights_times_value_are_the_exposures_and_with_cash_sum_to_one(quantities, cash, value):
    prices = {"AAA": 10.0, "BBB": 20.0}
    equity = math.fsum(prices[symbol] * quantity for symbol, quantity in quantities.items()) + (cash or 0.0)
    portfolio = Portfolio.from_quantities(quantities, cash=cash, value=value)
    if value is None and equity <= 1:
        return
    book = resolve(portfolio, **MARKET)
    exposures = [prices[symbol] * quantity for symbol, quantity in quantities.items()]
    np.testing.assert_allclose(book.weights * book.value, exposures, rtol=1e-12)
    if value is None:
        assert math.fsum(book.weights) + (cash or 0.0) / book.value == pytest.approx(1.0, abs=1e-9 * 4e10 / equity)


@moderately
@given(portfolios())
def test_stated_weights_reach_the_book_untouched(portfolio):
    if portfolio.positions[0].weight is None:
        return
    known = tuple(position.symbol for position in reversed(portfolio.positions))
    book = resolve(portfolio, symbols=known, currency="EUR", last_prices=None)
    assert book.weights.tolist() == [position.weight for position in portfolio.positions]
    assert math.fsum(book.weights) + (portfolio.cash or 0.0) == pytest.approx(1.0, abs=1e-6)
    assert book.value == portfolio.value


RATES = {
    "symbols": ("SAP", "EURUSD", "USDJPY"),
    "currency": "USD",
    "last_prices": np.array([100.0, 1.25, 160.0]),
}


def test_foreign_position_is_worth_its_price_times_the_exchange_rate():
    positions = (Position("SAP", quantity=8, currency="EUR"), Position("EURUSD", quantity=1))
    book = resolve(Portfolio(positions), **RATES)
    assert book.unit_exposures.tolist() == [125.0, 1.25]
    assert (book.exchange, book.exchange_powers.tolist()) == (("EURUSD", ""), [1.0, 0.0])
    assert not book.linear


def test_exchange_rate_quoted_the_other_way_round_divides():
    positions = (Position("SAP", quantity=1, currency="JPY", price=3200.0, depth=16_000.0),)
    book = resolve(Portfolio(positions), **RATES)
    assert book.unit_exposures.tolist() == [20.0]
    assert book.depths.tolist() == [100.0]
    assert book.exchange_powers.tolist() == [-1.0]


def test_foreign_position_without_an_exchange_rate_is_refused_with_the_symbol_to_load():
    with pytest.raises(InvalidPortfolio, match="GBPUSD"):
        resolve(Portfolio((Position("SAP", quantity=1, currency="GBP"),)), **RATES)


def test_mandate_limits_and_funding_survive_plain_data():
    portfolio = Portfolio(
        (Position("AAA", weight=1.0, group="tech", gamma=2.0),),
        limits=Limits(var=0.02),
        mandate=Mandate(max_weight=0.5, groups={"tech": (0.0, 0.5)}, views=(View({"AAA": 1.0}, 0.05),)),
        funding=(FundingFlow(7, outflow=10.0),),
    )
    assert Portfolio.from_dict(portfolio.to_dict()) == portfolio
