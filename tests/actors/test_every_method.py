"""What holds for every method of every risk agent: complete estimates, the same bits twice, and never NaN out.

The brains run without Ray, through the very functions that the agents call.
"""

from __future__ import annotations

import math
from dataclasses import fields, is_dataclass

import numpy as np
import pytest

from actors.risk.correlation.agent import CorrelationAgent
from actors.risk.liquidity.agent import LiquidityAgent
from actors.risk.portfolio.agent import PortfolioAgent
from actors.risk.stress.agent import StressAgent
from actors.risk.value_at_risk.agent import ValueAtRiskAgent
from cluster.errors import InvalidMarketData, SwarmError
from hive.messages.calculation import METHODS, Parameters, Shock
from hive.messages.codec import decode, digest, encode
from hive.messages.mandate import FundingFlow
from swarm.settings import Settings

DAYS = 1500
SYMBOLS = 6
AGENTS = {kind.role: kind for kind in (ValueAtRiskAgent, StressAgent, CorrelationAgent, LiquidityAgent, PortfolioAgent)}
EVERY = [(role, method) for role, methods in METHODS.items() for method in methods]


class Brain:
    """An agent's two functions without its actor."""

    def __init__(self, role):
        self.settings = getattr(Settings(), role.value)
        self.kind = AGENTS[role]

    def __call__(self, snapshot, book, parameters):
        return self.kind.answer(self, self.kind.rebuild(self, snapshot), book, parameters)


def asked(method, **fields):
    if method == "conditional":
        fields["given"] = (Shock("first falls", {"S0": -0.1}),)
    if method == "reverse":
        fields["target_loss"] = 0.1
    return Parameters(methods=(method,), **fields)


def numbers(value, path=""):
    """Every float in a message, with the way to it."""
    if isinstance(value, float):
        yield path, value
    elif isinstance(value, np.ndarray):
        if value.dtype.kind == "f":
            yield from ((f"{path}[{i}]", float(x)) for i, x in enumerate(value.ravel()))
    elif is_dataclass(value):
        for field in fields(value):
            yield from numbers(getattr(value, field.name), f"{path}.{field.name}")
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{path}[{key}]")
    elif isinstance(value, (tuple, list)):
        for place, inner in enumerate(value):
            yield from numbers(inner, f"{path}[{place}]")


def assert_finite(report):
    wrong = [f"{path} = {value}" for path, value in numbers(report) if not math.isfinite(value)]
    assert not wrong, wrong[:5]


@pytest.fixture(scope="module")
def real(market, snapshot):
    """Six real shares, the newest days of them."""
    return market(
        snapshot.returns[-DAYS:, :SYMBOLS],
        index_name="index",
        index_returns=snapshot.index_returns[-DAYS:],
        last_prices=snapshot.last_prices[:SYMBOLS],
        average_volumes=np.full(SYMBOLS, 1e6),
    )


@pytest.fixture(scope="module")
def long_book(book):
    weights = {f"S{i}": 1 / SYMBOLS for i in range(SYMBOLS)}
    return book(
        weights,
        value=1e6,
        prices=[50.0] * SYMBOLS,
        volumes=[1e6] * SYMBOLS,
        spreads=[5e-4] * SYMBOLS,
        usual_spreads=np.full(SYMBOLS, 2e-4),
        depths=np.full(SYMBOLS, 5e4),
        funding=(FundingFlow(7, outflow=1e5),),
    )


@pytest.mark.parametrize(("role", "method"), EVERY)
def test_method_gives_whole_estimates_and_the_same_bits_twice(role, method, real, long_book):
    brain, parameters = Brain(role), asked(method, seed=11)
    finding = brain(real, long_book, parameters)
    assert_finite(finding.report)
    assert not finding.fallbacks, finding.fallbacks
    for estimate in finding.report.all_estimates():
        assert estimate.method_label
        assert estimate.convention
        bounded = (estimate.lower, estimate.upper) != (None, None)
        assert bounded != estimate.interval_method.startswith("none"), estimate
        assert estimate.lower is None or estimate.lower <= estimate.value + 1e-12, estimate
        assert estimate.upper is None or estimate.value <= estimate.upper + 1e-12, estimate
    assert decode(encode(finding.report)) == finding.report
    assert digest(brain(real, long_book, parameters).report) == digest(finding.report)


@pytest.mark.parametrize("role", METHODS)
def test_methods_asked_for_change_the_answer(role, real, long_book):
    """No method is a name alone: each adds something to the answer that the others do not give."""
    brain = Brain(role)
    answers = {method: digest(brain(real, long_book, asked(method)).report) for method in METHODS[role]}
    twins = {value: [m for m, v in answers.items() if v == value] for value in answers.values()}
    assert all(len(names) == 1 for names in twins.values()), twins


def markets(market, snapshot):
    rng = np.random.default_rng(5)
    good = snapshot.returns[-400:, :4]
    return {
        "one symbol": good[:, :1],
        "constant series": np.column_stack([good[:, :2], np.zeros(400)]),
        "all constant": np.zeros((400, 2)),
        "singular": np.column_stack([good[:, :2], good[:, 0]]),
        "more symbols than days": rng.normal(0, 0.01, (30, 60)),
        "ten days": good[:10],
        "two days": good[:2],
        "huge moves": rng.standard_t(2, (400, 3)).clip(-0.9, 20),
    }


BAD = ("one symbol", "constant series", "all constant", "singular", "more symbols than days", "ten days", "two days")
BAD += ("huge moves",)


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("role", METHODS)
def test_hard_market_gives_finite_figures_or_one_named_error(role, case, market, snapshot, book):
    hard = market(markets(market, snapshot)[case])
    n = len(hard.symbols)
    held = book(dict.fromkeys(hard.symbols, 1 / n), value=1e6, prices=[50.0] * n, volumes=[1e6] * n)
    for method in METHODS[role]:
        try:
            finding = Brain(role)(hard, held, asked(method))
        except SwarmError as error:
            assert error.problem
            assert error.remedy
            continue
        assert_finite(finding.report)


@pytest.mark.parametrize("role", METHODS)
def test_book_without_weights_gives_finite_figures_or_one_named_error(role, real, book):
    empty = book(dict.fromkeys(real.symbols, 0.0), value=1e6, prices=[50.0] * SYMBOLS, volumes=[1e6] * SYMBOLS)
    for method in METHODS[role]:
        try:
            assert_finite(Brain(role)(real, empty, asked(method)).report)
        except SwarmError as error:
            assert error.remedy


@pytest.mark.parametrize("role", METHODS)
def test_convex_book_with_shorts_is_answered(role, real, book):
    weights = dict(zip(real.symbols, (0.8, -0.3, 0.4, -0.1, 0.1, 0.1), strict=True))
    convex = book(weights, value=1e6, prices=[50.0] * SYMBOLS, volumes=[1e6] * SYMBOLS, gammas=[4, 4, -2, 0, 0, 1])
    for method in METHODS[role]:
        assert_finite(Brain(role)(real, convex, asked(method)).report)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_market_that_is_not_finite_reaches_no_agent(value, market):
    with pytest.raises(InvalidMarketData):
        market(np.array([[0.01, 0.0], [value, 0.01]]))
