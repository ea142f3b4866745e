"""Mandates mean what they say: signs, equilibrium, symbols of no weight, advice, whole lots, wrong budgets."""

from __future__ import annotations

import io
import itertools
from dataclasses import replace

import numpy as np
import pytest
from rich.console import Console

from actors.risk.covariance import ledoit_wolf
from actors.risk.portfolio import allocation, convex, lots
from actors.risk.portfolio.constraints import Constraints, constraints_of, taking_part
from actors.risk.portfolio.rebalance import Costs, plan
from actors.risk.portfolio.settings import PortfolioSettings
from cluster.errors import InvalidPortfolio
from hive.messages.calculation import Parameters
from hive.messages.codec import decode, encode
from hive.messages.mandate import Mandate, View
from swarm.report.page import portfolio as page
from swarm.report.terminal import portfolio as terminal

SETTINGS = PortfolioSettings()


def propose(market, held, *methods, **fields):
    settings = PortfolioSettings(**fields)
    parameters = Parameters(methods=methods, confidences=(0.95,))
    return allocation.propose(allocation.rebuild(market, settings), held, parameters, settings)


@pytest.fixture(scope="module")
def hedged(market):
    """B moves with A and more than it: without bounds on its sign, least variance sells it."""
    rng = np.random.default_rng(3)
    factor = rng.normal(0, 0.01, 1000)
    noise = rng.normal(0, 0.002, (1000, 2))
    returns = np.column_stack([factor + noise[:, 0], 1.8 * factor + noise[:, 1], rng.normal(0, 0.01, 1000)])
    return market(returns, symbols=("A", "B", "C"))


@pytest.fixture(scope="module")
def four(market):
    rng = np.random.default_rng(8)
    common = rng.normal(0, 0.006, (900, 1))
    returns = 0.0004 + common + rng.normal(0, 0.01, (900, 4)) * [0.8, 1.0, 1.3, 1.7] + [0.0, 0.0002, 0.0005, 0.001]
    return market(returns, symbols=("A", "B", "C", "D"))


# Signs


@pytest.mark.parametrize("method", ["minimum_variance", "mean_variance", "minimum_cvar", "maximum_diversification"])
def test_bounds_of_one_symbol_leave_the_signs_of_the_others(method, hedged, book):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2}, mandate=Mandate(bounds={"C": (0.0, 0.6)}))
    report, _, _ = propose(hedged, held, method)
    weights = report.proposals[0].weights
    assert (weights >= -1e-6).all()
    assert weights[2] <= 0.6 + 1e-6


def test_only_the_symbol_whose_own_bounds_reach_over_zero_may_change_its_sign(hedged, book):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2}, mandate=Mandate(bounds={"B": (-0.2, 0.3)}))
    weights = propose(hedged, held, "minimum_variance")[0].proposals[0].weights
    assert weights[1] == pytest.approx(-0.2)
    other = replace(held, mandate=Mandate(bounds={"C": (-0.2, 0.6)}))
    weights = propose(hedged, other, "minimum_variance")[0].proposals[0].weights
    assert (weights[:2] >= 0).all()


def test_a_short_stays_short_beside_bounds_of_another_symbol(hedged, book):
    for bounds in ({"C": (0.0, 0.4)}, {"C": (-0.1, 0.4)}, {"B": (-0.4, -0.1)}):
        held = book({"A": 0.9, "B": -0.3, "C": 0.4}, mandate=Mandate(bounds=bounds))
        weights = propose(hedged, held, "minimum_variance")[0].proposals[0].weights
        assert weights[0] >= 0
        assert weights[1] <= 0
        for symbol, (least, most) in bounds.items():
            assert least - 1e-9 <= weights["ABC".index(symbol)] <= most + 1e-9


def test_bounds_on_the_other_side_of_zero_turn_a_position_round(hedged, book):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2}, mandate=Mandate(bounds={"B": (-0.3, -0.1)}))
    weights = propose(hedged, held, "minimum_variance")[0].proposals[0].weights
    assert -0.3 - 1e-9 <= weights[1] <= -0.1 + 1e-9
    assert weights[0] >= 0
    assert weights[2] >= 0


# Equilibrium


@pytest.mark.parametrize(
    ("weights", "mandate"),
    [
        ({"A": 0.4, "B": 0.3, "C": 0.2, "D": 0.1}, {}),
        ({"A": 0.4, "B": 0.3, "C": 0.2, "D": 0.1}, {"min_weight": -2.0, "max_weight": 2.0}),
        ({"A": 1.1, "B": -0.3, "C": 0.5, "D": -0.3}, {}),
        ({"A": 0.9, "B": -0.3, "C": 0.4, "D": -0.4}, {"min_weight": -3.0, "max_weight": 3.0}),
    ],
)
def test_views_without_confidence_leave_the_book_as_it_is(weights, mandate, four, book):
    held = book(weights, mandate=Mandate(views=(View({"D": 1.0}, 0.9, 1e-7),), **mandate))
    report, _, fallbacks = propose(four, held, "black_litterman")
    assert fallbacks == ()
    assert report.proposals[0].method_label == "black_litterman"
    assert report.proposals[0].weights == pytest.approx(held.weights, abs=2e-3)


@pytest.mark.parametrize("confidence", [0.2, 0.8])
def test_black_litterman_is_the_closed_form_over_the_equilibrium(confidence, four, book):
    held = book(
        {"A": 0.9, "B": -0.3, "C": 0.4, "D": 0.2},
        mandate=Mandate(min_weight=-9.0, max_weight=9.0, views=(View({"A": 1.0, "B": -1.0}, 0.06, confidence),)),
    )
    ours = propose(four, held, "black_litterman")[0].proposals[0].weights
    covariance = ledoit_wolf(four.returns)[0] * 252
    pick = np.array([1.0, -1.0, 0.0, 0.0])
    implied = SETTINGS.risk_aversion * covariance @ held.weights
    pull = covariance @ pick / (pick @ covariance @ pick) * confidence  # Idzorek: this share of the way to the view
    means = implied + pull * (0.06 - pick @ implied)
    system = np.block([[SETTINGS.risk_aversion * covariance, np.ones((4, 1))], [np.ones((1, 4)), np.zeros((1, 1))]])
    expected = np.linalg.solve(system, np.append(means, held.weights.sum()))[:4]
    assert ours == pytest.approx(expected, abs=5e-3)


def test_a_target_return_beside_views_is_asked_of_the_windows_means(four, book):
    views = (View({"A": 1.0}, 0.5, 0.9),)
    held = book(dict.fromkeys("ABCD", 0.25), mandate=Mandate(target_return=0.2, views=views))
    report, warnings, _ = propose(four, held, "black_litterman")
    assert report.proposals, warnings
    assert all(use.met for use in report.proposals[0].constraints)


# Symbols of no weight


def test_a_relative_view_keeps_both_its_sides_where_one_has_no_weight(four, book):
    def answer(view):
        held = book({"A": 0.5, "B": 0.0, "C": 0.5}, mandate=Mandate(views=(view,)))
        report, _, fallbacks = propose(four, held, "black_litterman")
        assert fallbacks == ()
        return report.proposals[0].weights

    relative = answer(View({"A": 1.0, "B": -1.0}, -0.2, 0.9))
    absolute = answer(View({"A": 1.0}, -0.2, 0.9))
    assert relative[1] > 0.05
    assert absolute[1] == 0.0


def test_a_view_on_a_symbol_of_no_weight_alone_is_solved(four, book):
    held = book({"A": 0.6, "B": 0.4, "D": 0.0}, mandate=Mandate(views=(View({"D": 1.0}, 0.5, 0.9),)))
    report, _, fallbacks = propose(four, held, "black_litterman")
    assert fallbacks == ()
    assert report.proposals[0].weights[2] > 0.05


def test_bounds_of_a_symbol_of_no_weight_are_obeyed(four, book):
    held = book({"A": 0.6, "B": 0.4, "C": 0.0, "D": 0.0}, mandate=Mandate(bounds={"C": (0.1, 0.2), "D": (0.0, 0.0)}))
    report, _, _ = propose(four, held, "minimum_variance", "minimum_cvar", "mean_variance")
    assert len(report.proposals) == 3
    for proposal in report.proposals:
        assert 0.1 - 1e-6 <= proposal.weights[2] <= 0.2 + 1e-6
        assert proposal.weights[3] == 0.0


def test_a_risk_budget_of_a_symbol_of_no_weight_is_met(four, book):
    budgets = {"A": 0.5, "B": 0.3, "C": 0.2}
    held = book({"A": 0.6, "B": 0.4, "C": 0.0}, mandate=Mandate(risk_budgets=budgets))
    report, _, _ = propose(four, held, "risk_parity")
    assert report.proposals[0].risk_contributions == pytest.approx([0.5, 0.3, 0.2], abs=1e-7)


@pytest.mark.parametrize(
    "mandate",
    [Mandate(bounds={"Z": (0, 0.1)}), Mandate(views=(View({"Z": 1.0}, 0.1),)), Mandate(risk_budgets={"Z": 1.0})],
)
def test_a_symbol_that_is_not_in_the_book_is_refused_with_the_way_to_add_it(mandate, four, book):
    with pytest.raises(InvalidPortfolio, match="Z") as refusal:
        propose(four, book({"A": 0.6, "B": 0.4}, mandate=mandate), "minimum_variance")
    assert "position of weight 0" in refusal.value.remedy


# Wrong budgets, and the last resort's name


def test_risk_budgets_that_leave_a_position_out_are_refused_by_name(four, book):
    held = book({"A": 0.5, "B": 0.3, "C": 0.2}, mandate=Mandate(risk_budgets={"A": 0.5, "B": 0.5}))
    with pytest.raises(InvalidPortfolio, match="leave out C"):
        propose(four, held, "minimum_variance")


def test_risk_budgets_need_not_name_what_is_forbidden(four, book):
    mandate = Mandate(risk_budgets={"A": 0.5, "B": 0.5}, forbidden=("C",))
    report, _, _ = propose(four, book({"A": 0.5, "B": 0.3, "C": 0.2}, mandate=mandate), "minimum_variance")
    assert report.proposals[0].weights[2] == 0.0


def test_the_last_resort_does_not_carry_the_name_of_the_method(four, book, monkeypatch):
    monkeypatch.setattr(convex, "ATTEMPTS", {"one step": {"max_iter": 1}})
    report, _, _ = propose(four, book({"A": 0.5, "B": 0.5}), "minimum_cvar")
    assert report.proposals[0].name == "inverse volatility (instead of minimum CVaR)"


# Advice on the way


@pytest.mark.parametrize("mandate", [Mandate(max_positions=2), Mandate(forbidden=("A",))])
def test_advice_that_would_break_the_mandate_goes_the_whole_way(mandate, four, book):
    held = book(dict.fromkeys("ABCD", 0.25), value=1e6, spreads=[0.02] * 4, mandate=mandate)
    report, warnings, _ = propose(four, held, "mean_variance", "rebalance", no_trade_band=0.0)
    free, _, _ = propose(four, replace(held, mandate=None), "mean_variance", "rebalance", no_trade_band=0.0)
    assert free.rebalance.share < 1  # the cost alone would stop on the way
    advice = report.rebalance
    assert advice.trade
    assert advice.share == 1.0
    assert advice.weights == pytest.approx(report.proposals[0].weights)
    assert advice.cost > 0
    assert any("rebalance" in note and "mandate" in note and "whole way" in note for note in warnings)


def test_advice_within_the_mandate_may_stop_on_the_way(four, book):
    mandate = Mandate(max_weight=0.9)
    held = book(dict.fromkeys("ABCD", 0.25), value=1e6, spreads=[0.02] * 4, mandate=mandate)
    report, warnings, _ = propose(four, held, "mean_variance", "rebalance", no_trade_band=0.0)
    assert report.rebalance.share < 1
    assert not any("rebalance" in note for note in warnings)


def test_a_way_that_may_not_be_walked_in_part_is_taken_whole_only_if_it_pays():
    now, aim = np.array([1.0, 0.0]), np.array([0.0, 1.0])
    question = now, aim, np.array([0.0, 0.06]), np.diag([0.04, 0.04]), Costs(np.full(2, 0.004), np.full(2, 0.002))
    options = {"aversion": 3.0, "holding_days": 63.0}

    def ends(weights):
        return bool(np.isclose(np.abs(weights).max(), 1.0))

    free = plan(*question, **options, band=0.0)
    assert 0 < free.share < 1
    assert plan(*question, **options, band=0.0, obeys=ends).share == 1.0
    refused = plan(*question, **options, band=0.04, obeys=ends)
    assert (refused.share, refused.trade) == (0.0, False)
    forced = plan(*question, **options, band=9.0, obeys=lambda weights: bool(np.allclose(weights, aim)))
    assert (forced.share, forced.trade) == (1.0, True)


# Whole lots


def in_lots(book, *, sizes, prices, weights=(0.4, 0.3, 0.2, 0.1), value=100_000.0, **fields):
    held = dict(zip("ABCD", weights, strict=True))
    return book(held, value=value, prices=prices, lots=np.array(sizes, float), **fields)


def test_every_proposal_is_given_in_whole_lots(four, book):
    held = in_lots(book, sizes=[100, 50, 10, np.nan], prices=[40, 90, 300, 10])
    report, _, _ = propose(four, held, "risk_parity", "minimum_variance", "minimum_cvar")
    for proposal in report.proposals:
        whole = proposal.lots
        assert whole.proved
        assert set(whole.units) == set("ABC")
        for symbol, size, price in zip("ABC", (100, 50, 10), (40, 90, 300), strict=True):
            assert whole.units[symbol] % size == 0
            assert whole.weights["ABC".index(symbol)] == pytest.approx(whole.units[symbol] * price / 1e5)
        assert whole.weights[3] == proposal.weights[3]
        assert whole.cash == pytest.approx(1e5 * (1 - whole.weights.sum()), abs=1e-3)
        assert whole.cash >= 0
        assert whole.distance == pytest.approx(np.abs(whole.weights - proposal.weights).sum() / 2)
    assert decode(encode(report)) == report


def test_a_book_without_lots_says_nothing_of_them(four, book):
    report, warnings, _ = propose(four, book({"A": 0.5, "B": 0.5}, value=1e5, prices=[10, 10]), "risk_parity")
    assert report.proposals[0].lots is None
    assert not any("lots" in note for note in warnings)


@pytest.mark.parametrize("seed", range(25))
def test_whole_lots_are_the_nearest_of_all(seed):
    """Against every choice, with shorts, groups, turnover, gross exposure and few positions in turn."""
    rng = np.random.default_rng(seed)
    n = 4
    aim = rng.dirichlet(np.ones(n))
    sizes = rng.uniform(0.03, 0.3, n)
    free = bool(seed % 2)
    if free:
        aim[0] *= -1
        aim /= aim.sum()
    bound = {
        0: {"max_turnover": 0.25},
        1: {"max_gross": float(np.abs(aim).sum())},
        2: {"max_positions": 4},
        3: {"target_return": float(np.array([0.02, 0.05, 0.08, 0.1]) @ aim) - 0.01},
        4: {},
    }[seed % 5]
    signs = np.ones(n) if free else rng.choice([-1.0, 1.0], n)
    annual = np.array([0.02, 0.05, 0.08, 0.1]) * signs
    constraints = Constraints(
        symbols=tuple("ABCD"),
        signs=signs,
        current=aim + rng.normal(0, 0.01, n),
        lower=np.full(n, -9.0 if free else 0.0),
        upper=np.full(n, 9.0),
        total=float(aim.sum()),
        **bound,
    )
    found = lots.nearest(aim, constraints, sizes, annual, mandated=True)
    least = np.inf
    floors = np.floor(aim / sizes).astype(int)
    for counts in itertools.product(*(range(floor - 3, floor + 5) for floor in floors)):
        x = np.array(counts) * sizes
        uses = allocation.measured(constraints, x, annual)[1:]
        within = x.sum() <= aim.sum() + 1e-9 and (free or signs @ x <= signs @ aim + 1e-9)
        if within and all(use.met for use in uses):
            least = min(least, float(np.abs(x - aim).sum()))
    if found is None:
        assert least == np.inf
    else:
        assert found.proved
        assert found.method_label == "milp"
        assert np.abs(found.unknowns - aim).sum() == pytest.approx(least, abs=1e-7)


def test_whole_lots_obey_the_mandate(four, book):
    mandate = Mandate(
        max_weight=0.6, bounds={"D": (0.15, 0.3)}, groups={"g": (0.3, 0.5)}, max_positions=3, forbidden=("B",)
    )
    held = in_lots(
        book, sizes=[100, 10, 10, 100], prices=[41, 90, 300, 33], mandate=mandate, groups=("g", "h", "h", "g")
    )
    report, _, _ = propose(four, held, "minimum_variance", "minimum_cvar", "mean_variance")
    assert report.proposals
    for proposal in report.proposals:
        whole = proposal.lots
        assert all(use.met for use in whole.constraints)
        assert (whole.weights <= 0.6 + 1e-6).all()
        assert 0.15 - 1e-6 <= whole.weights[3] <= 0.3 + 1e-6
        assert 0.3 - 1e-6 <= whole.weights[[0, 3]].sum() <= 0.5 + 1e-6
        assert whole.units["B"] == 0


def test_lots_that_no_mandate_allows_are_explained(four, book):
    mandate = Mandate(bounds={"A": (0.35, 0.45)})
    held = in_lots(book, sizes=[1000, 1, 1, 1], prices=[30, 90, 300, 10], mandate=mandate)  # a lot of A is 30 %
    report, warnings, _ = propose(four, held, "minimum_variance")
    assert report.proposals[0].lots is None
    assert any("whole lots" in note and "obey the mandate" in note for note in warnings)


def test_shorts_come_in_whole_lots_without_taking_more_money_or_exposure(four, book):
    held = in_lots(book, sizes=[100, 50, 10, 100], prices=[40, 90, 300, 10], weights=(0.9, -0.4, 0.7, -0.2))
    report, _, _ = propose(four, held, "risk_parity", "minimum_cvar")
    for proposal in report.proposals:
        whole = proposal.lots
        assert whole.units["B"] <= 0
        assert np.abs(whole.weights).sum() <= np.abs(proposal.weights).sum() + 1e-9
        assert whole.weights.sum() <= proposal.weights.sum() + 1e-9
        assert whole.cash == pytest.approx(1e5 * (proposal.weights.sum() - whole.weights.sum()), abs=1e-6)


def test_a_lot_larger_than_the_book_and_unknown_prices_and_values_are_warned_of(four, book):
    held = in_lots(book, sizes=[10_000, 1, 1, 1], prices=[40, np.nan, 300, 10])
    report, warnings, _ = propose(four, held, "risk_parity")
    assert any("one lot of A is 4 times the whole book" in note for note in warnings)
    assert any("no price is known for B" in note for note in warnings)
    assert report.proposals[0].lots.units["A"] == 0
    assert "B" not in report.proposals[0].lots.units
    report, _, _ = propose(four, replace(held, unit_exposures=np.full(4, np.nan)), "risk_parity")
    assert report.proposals[0].lots is None
    _, warnings, _ = propose(four, replace(held, value=None), "risk_parity")
    assert any("whole lots" in note and "value" in note for note in warnings)


def test_a_proposal_that_is_whole_lots_already_stays_as_it_is_in_a_large_book(four, book):
    bounds = {"A": (0.4, 0.4), "B": (0.3, 0.3), "C": (0.2, 0.2), "D": (0.1, 0.1)}
    held = in_lots(book, sizes=[1] * 4, prices=[40, 75, 500, 10], value=3e9, mandate=Mandate(bounds=bounds))
    whole = propose(four, held, "minimum_variance")[0].proposals[0].lots
    assert whole.units == {"A": 3e7, "B": 1.2e7, "C": 1.2e6, "D": 3e7}
    assert whole.cash == pytest.approx(0, abs=1)


def test_a_search_that_ends_without_a_proof_rounds_towards_zero_and_says_so(four, book, monkeypatch):
    monkeypatch.setattr(lots, "_program", lambda *_: (None, False))
    held = in_lots(book, sizes=[100, 50, 10, 10], prices=[40, 90, 300, 10])
    proposal = propose(four, held, "risk_parity")[0].proposals[0]
    assert proposal.lots.method_label == "towards_zero"
    assert not proposal.lots.proved
    assert (proposal.lots.weights <= proposal.weights).all()


def test_fifty_positions_in_lots_are_proved(market, book):
    rng = np.random.default_rng(2)
    returns = rng.normal(0, 0.01, (600, 50)) * rng.uniform(0.5, 2, 50) + rng.normal(0, 0.005, (600, 1))
    prices = rng.uniform(5, 500, 50)
    held = book({f"S{i}": 0.02 for i in range(50)}, value=1e6, prices=prices, lots=np.full(50, 10.0))
    whole = propose(market(returns), held, "risk_parity")[0].proposals[0].lots
    assert whole.proved
    assert whole.cash < 1e6 * whole.distance * 2


def test_whole_lots_are_shown_at_the_terminal_and_on_the_page(four, book):
    held = in_lots(book, sizes=[100, 50, 10, np.nan], prices=[40, 90, 300, 10])
    report, _, _ = propose(four, held, "risk_parity")
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(*terminal._lots(report))
    shown = console.export_text()
    assert "In whole lots" in shown
    assert f"{report.proposals[0].lots.units['A']:,.12g}" in shown
    assert "left over in cash" in shown
    markup = "".join(str(part) for part in page._lots(report))
    assert "in whole lots" in markup
    assert f"A {report.proposals[0].lots.units['A']:,.12g}" in markup
    assert page._lots(replace(report, proposals=())) == []


def test_positions_that_take_part_are_those_with_weight_and_those_that_the_mandate_names(book):
    mandate = Mandate(bounds={"B": (0, 0.1), "C": (0, 0)}, views=(View({"D": 1.0, "E": 0.0}, 0.1),))
    held = book({"A": 1.0, "B": 0.0, "C": 0.0, "D": 0.0, "E": 0.0}, mandate=mandate)
    assert taking_part(held).tolist() == [0, 1, 3]
    assert constraints_of(held, taking_part(held)).signs.tolist() == [1.0, 1.0, 1.0]
