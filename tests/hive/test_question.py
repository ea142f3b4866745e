"""Which figure of a report a question means, and what is said where it means none or several."""

from __future__ import annotations

import pytest

from cluster.errors import InvalidRequest
from hive.messages.calculation import AgentAnswer, AnswerStatus, Role
from hive.messages.question import Question, figure
from tests.hive.test_merging import TAIL

ANSWER = AgentAnswer(role=Role.VALUE_AT_RISK, agent_id="value_at_risk", status=AnswerStatus.OK, report=TAIL)


def asked(measure="var", method="", confidence=None):
    return figure(Question(Role.VALUE_AT_RISK, measure, method, confidence, task=None), ANSWER)


@pytest.mark.parametrize(
    ("question", "value"),
    [
        ({"confidence": 0.99}, 0.04),
        ({"confidence": 0.95}, 0.02),
        ({"confidence": 0.95, "method": "gauss"}, 0.09),
        ({"method": "gaussian"}, 0.09),
        ({"measure": "cvar"}, 0.03),
    ],
)
def test_the_figure_that_is_meant(question, value):
    assert asked(**question) == value


@pytest.mark.parametrize(
    ("question", "words"),
    [
        ({}, "more than one var by any method. .*historical at 0.95, historical at 0.99, gaussian at 0.95"),
        ({"confidence": 0.9}, "no var by any method at 0.9. .*historical at 0.99"),
        ({"method": "monte"}, "no var by monte. .*gaussian at 0.95"),
        ({"measure": "wealth"}, "no wealth by any method. It has: cvar, var"),
    ],
)
def test_what_means_none_or_several_is_told_what_there_is(question, words):
    with pytest.raises(InvalidRequest, match=words):
        asked(**question)


def test_an_agent_without_an_answer_is_no_number():
    failed = AgentAnswer(role=Role.VALUE_AT_RISK, agent_id="value_at_risk", status=AnswerStatus.LATE, reason="slow")
    with pytest.raises(InvalidRequest, match="slow"):
        figure(Question(Role.VALUE_AT_RISK, "var", "", None, task=None), failed)
