"""Calculation parameters are refused with words a risk manager can act on, and a result gives up what it holds."""

from __future__ import annotations

import json
import math

import numpy as np
import pytest

from cluster.errors import InvalidRequest
from hive.messages.calculation import (
    METHODS,
    AgentAnswer,
    AnswerStatus,
    CalculationRequest,
    CalculationResult,
    CalculationType,
    Parameters,
    Role,
    Shock,
    methods_for,
)
from hive.messages.codec import decode, encode
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Portfolio
from hive.messages.reports import (
    Allocation,
    CorrelatedPair,
    CorrelationReport,
    DayLoss,
    LiquidityReport,
    PortfolioReport,
    PositionLiquidity,
    RegimeChange,
    Scenario,
    StressReport,
    ValueAtRiskReport,
)

PORTFOLIO = Portfolio.from_weights({"AAA": 1.0})


def estimated(measure, value, method_label="historical", confidence=None):
    return Estimate(
        measure=measure,
        value=value,
        unit="fraction",
        method_label=method_label,
        convention="",
        samples=100,
        confidence=confidence,
    )


def comprehensive(**changes):
    matrix = np.array([[1.0, 0.9], [0.9, 1.0]])
    kept = Allocation("current", "as_stated", np.array([1.0]), np.array([1.0]), 0.0, (estimated("volatility", 0.2),))
    reports = {
        Role.VALUE_AT_RISK: ValueAtRiskReport(
            estimates=(
                estimated("var", 0.02, confidence=0.95),
                estimated("var", 0.03, confidence=0.99),
                estimated("var", 0.025, "gaussian", confidence=0.99),
            ),
            worst_days=(DayLoss("2020-03-16", 0.12),),
        ),
        Role.STRESS: StressReport(
            scenarios=(
                Scenario("crash", "hypothetical", estimated("loss", 0.4, "shock"), {"AAA": 0.4}),
                Scenario("covid", "historical", None, {}, note="not covered"),
                Scenario("dip", "hypothetical", estimated("loss", 0.1, "shock"), {"AAA": 0.1}),
            )
        ),
        Role.CORRELATION: CorrelationReport(
            symbols=("AAA", "BBB"),
            shrunk=matrix,
            ewma=matrix * np.nan,
            shrinkage=0.1,
            estimates=(estimated("mean_correlation", 0.9),),
            pairs=(CorrelatedPair("AAA", "BBB", 0.95, "HIGH"),),
            regime=RegimeChange(0.9, 0.5, estimated("correlation_change", 0.4), 63, 252, True),
        ),
        Role.LIQUIDITY: LiquidityReport(
            positions=(PositionLiquidity("AAA", None, None, None, "no volume"),),
            covered=0.0,
            estimates=(),
            profile=((1, 0.5), (5, 1.0)),
        ),
        Role.PORTFOLIO: PortfolioReport(symbols=("AAA",), current=kept, proposals=(kept,)),
    }
    answers = {role.value: AgentAnswer(role, role.value, AnswerStatus.OK, report) for role, report in reports.items()}
    fields = {
        "request_id": "r1",
        "calculation": CalculationType.COMPREHENSIVE,
        "portfolio": "desk",
        "currency": "USD",
        "value": 1e6,
        "snapshot_id": "s" * 64,
        "as_of": "2022-12-28",
        "answers": answers,
        "merged": (estimated("stressed_var", 0.05),),
        "completeness": 1.0,
        "elapsed_ns": 5,
        "parameters": Parameters(),
    }
    return CalculationResult(**{**fields, **changes})


@pytest.mark.parametrize("tail", [0.05, 0.01, 0.5])
def test_a_tail_probability_for_a_confidence_is_called_one_and_answered_with_its_confidence(tail):
    with pytest.raises(InvalidRequest) as refusal:
        Parameters(confidences=(0.95, tail))
    assert f"confidence {tail} is out of range" in refusal.value.problem
    assert refusal.value.remedy == f"That is a tail probability; its confidence is {1 - tail:g}"


REFUSED = {
    "confidence_of_one": ({"confidences": (1.0,)}, "confidence 1.0", "between 0.5 and 1"),
    "confidence_of_zero": ({"confidences": (0.0,)}, "confidence 0.0", "between 0.5 and 1"),
    "confidence_in_percent": ({"confidences": (95.0,)}, "confidence 95.0", "between 0.5 and 1"),
    "whole_number_confidence": ({"confidences": (95,)}, "confidence 95", "between 0.5 and 1"),
    "nan_confidence": ({"confidences": (math.nan,)}, "nan", "between 0.5 and 1"),
    "text_confidence": ({"confidences": ("0.95",)}, "'0.95'", "between 0.5 and 1"),
    "no_confidence": ({"confidences": ()}, "no confidence", "0.95"),
    "confidence_outside_a_list": ({"confidences": 0.95}, "0.95", "0.95"),
    "zero_horizon": ({"horizon_days": 0}, "0 days", "1 to 250"),
    "horizon_beyond_a_year": ({"horizon_days": 251}, "251 days", "1 to 250"),
    "fractional_horizon": ({"horizon_days": 1.0}, "1.0", "trading days"),
    "truth_for_a_horizon": ({"horizon_days": True}, "True", "trading days"),
    "negative_seed": ({"seed": -1}, "-1", "42"),
    "fractional_seed": ({"seed": 1.5}, "1.5", "42"),
    "truth_for_a_seed": ({"seed": True}, "True", "42"),
    "window_without_an_end": ({"windows": (("2020-02-19",),)}, "2020-02-19", "date"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_parameters_out_of_range_are_refused_by_name_and_with_a_remedy(case):
    fields, named, remedy = REFUSED[case]
    with pytest.raises(InvalidRequest) as refusal:
        Parameters(**fields)
    assert named in refusal.value.problem
    assert remedy in refusal.value.remedy


def test_every_seed_that_is_accepted_has_canonical_bytes():
    for seed in (0, 2**32, 2**64 - 1):
        assert decode(encode(Parameters(seed=seed))).seed == seed
    with pytest.raises(InvalidRequest, match="seed"):
        Parameters(seed=2**64)


def test_lists_become_tuples_so_that_parameters_stay_frozen():
    parameters = Parameters(confidences=[0.9], shocks=[Shock("x", {"*": -0.1})], windows=[["2020-02-19", "2020-03-23"]])
    assert parameters.confidences == (0.9,)
    assert parameters.windows == (("2020-02-19", "2020-03-23"),)
    assert isinstance(parameters.shocks, tuple)


@pytest.mark.parametrize(
    ("moves", "named"),
    [
        ({}, "nothing"),
        ({"AAA": -1.01}, "AAA by -1.01"),
        ({"AAA": math.nan}, "AAA by nan"),
        ({"*": math.inf}, "* by inf"),
        ({"AAA": "-0.2"}, "AAA by '-0.2'"),
        ({"AAA": None}, "AAA by None"),
    ],
)
def test_a_shock_that_is_no_return_is_refused_and_named(moves, named):
    with pytest.raises(InvalidRequest) as refusal:
        Shock("crash", moves)
    assert "'crash'" in refusal.value.problem
    assert named in refusal.value.problem
    assert refusal.value.remedy


def test_a_total_loss_is_a_possible_shock():
    assert Shock("ruin", {"*": -1.0}).moves == {"*": -1.0}


@pytest.mark.parametrize("text", ["var", "VAR", "VAR_CVAR", "var_cvar", CalculationType.VAR_CVAR])
def test_a_calculation_is_found_by_value_or_member_name_in_any_case(text):
    assert CalculationType.parse(text) is CalculationType.VAR_CVAR


def test_an_unknown_calculation_is_refused_and_the_known_are_listed():
    with pytest.raises(InvalidRequest) as refusal:
        CalculationType.parse("vra")
    assert "'vra'" in refusal.value.problem
    assert all(kind.value in refusal.value.remedy for kind in CalculationType)


def test_comprehensive_asks_every_agent_that_some_other_calculation_asks():
    single = {role for kind in CalculationType if kind is not CalculationType.COMPREHENSIVE for role in kind.roles}
    others = {Role.HUB, Role.MARKET_DATA, Role.GATE, Role.CONSENSUS}
    assert set(CalculationType.COMPREHENSIVE.roles) == single == set(Role) - others


def test_a_request_without_portfolios_or_with_two_snapshots_is_refused():
    fields = {"calculation": CalculationType.VAR_CVAR, "parameters": Parameters(), "deadline_utc_ns": 1}
    with pytest.raises(InvalidRequest, match="no portfolio"):
        CalculationRequest(portfolios=(), **fields)
    with pytest.raises(InvalidRequest, match="snapshot id and a date"):
        CalculationRequest(portfolios=(PORTFOLIO,), snapshot_id="a" * 64, as_of="2020-01-02", **fields)
    first, second = (CalculationRequest(portfolios=[PORTFOLIO], **fields) for _ in range(2))
    assert first.request_id != second.request_id
    assert CalculationRequest(portfolios=[PORTFOLIO], request_id="mine", **fields).request_id == "mine"


def test_a_result_gives_each_agents_report_by_role_or_name():
    result = comprehensive()
    assert result.complete
    assert result.report("stress") is result.report(Role.STRESS)
    assert result.report("stress").worst.name == "crash"


@pytest.mark.parametrize("role", [Role.STRESS, "stress", "hub", "nonsense"])
def test_a_report_that_is_not_there_is_refused_and_named(role):
    with pytest.raises(InvalidRequest) as refusal:
        comprehensive(answers={}, calculation=CalculationType.VAR_CVAR).report(role)
    assert str(role) in refusal.value.problem
    assert refusal.value.remedy


def test_the_reason_of_a_failed_agent_is_in_the_refusal():
    failed = AgentAnswer(Role.STRESS, "stress-2", AnswerStatus.FAILED, reason="out of memory")
    result = comprehensive(answers={"stress": failed}, completeness=0.0)
    with pytest.raises(InvalidRequest, match=r"failed \(out of memory\)"):
        result.report(Role.STRESS)
    assert not result.complete
    assert failed.method_labels == ()
    assert [source for source, _ in result.estimates()] == ["hub"]


def test_an_estimate_is_found_by_measure_confidence_and_method():
    result = comprehensive()
    assert result.estimate("var").value == 0.02
    assert result.estimate("var", 0.99).value == 0.03
    assert result.estimate("var", 0.99, "gaussian").value == 0.025
    assert result.estimate("stressed_var").value == 0.05
    for missing in (("nothing",), ("var", 0.9), ("var", 0.95, "gaussian"), ("stressed_var", 0.95)):
        with pytest.raises(InvalidRequest, match=missing[0]):
            result.estimate(*missing)


def test_every_estimate_is_a_row_of_the_table_and_names_its_agent():
    result = comprehensive()
    frame = result.to_frame()
    assert len(frame) == len(result.estimates()) == 3 + 2 + 2 + 0 + 2 + 1
    assert set(frame.agent) == {"value_at_risk", "stress", "correlation", "portfolio", "hub"}
    assert frame[frame.measure == "var"].value.tolist() == [0.02, 0.03, 0.025]


def test_a_whole_result_is_json_without_nan():
    fields = json.loads(json.dumps(comprehensive().to_dict(), allow_nan=False))
    assert fields["complete"] is True
    assert fields["answers"]["correlation"]["report"]["ewma"] == [[None, None], [None, None]]
    assert fields["answers"]["liquidity"]["report"]["profile"] == [[1, 0.5], [5, 1.0]]
    assert fields["answers"]["stress"]["report"]["scenarios"][1]["loss"] is None


def test_methods_asked_for_are_applied_in_their_order_and_others_keep_their_default():
    asked = ("gpd", "historical", "dcc")
    assert methods_for(Role.VALUE_AT_RISK, asked, ("gaussian",)) == ("historical", "gpd")
    assert methods_for(Role.STRESS, asked, ("factor",)) == ("factor",)
    assert methods_for(Role.STRESS, ("all",), ("factor",)) == METHODS[Role.STRESS]


def test_an_unknown_method_is_refused_with_names_like_it():
    with pytest.raises(InvalidRequest, match="historical"):
        Parameters(methods=("historcal",))


def test_a_method_of_an_agent_that_is_not_asked_is_refused():
    with pytest.raises(InvalidRequest, match="dcc"):
        CalculationRequest((PORTFOLIO,), CalculationType.VAR_CVAR, Parameters(methods=("dcc",)), deadline_utc_ns=1)


def test_names_of_methods_are_unique_over_the_agents():
    names = [name for methods in METHODS.values() for name in methods]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("target", [0.0, -0.1, math.nan, math.inf, "much"])
def test_a_target_loss_that_is_no_loss_is_refused(target):
    with pytest.raises(InvalidRequest, match="target loss"):
        Parameters(target_loss=target)


def test_a_condition_on_everything_is_refused():
    with pytest.raises(InvalidRequest, match="Name the symbols"):
        Parameters(given=(Shock("all", {"*": -0.1}),))
