"""A number that a committee is asked to agree on: which figure, of which agent's report, on which task.

The question is its own text: everything that an answer rests on is in it, so that all voters answer the same, and who
reads it later knows what was agreed.
"""

from __future__ import annotations

import base64
import binascii
import json
from typing import Final

from cluster.errors import InvalidRequest
from hive.messages.calculation import AgentAnswer, Role, Task
from hive.messages.codec import decode, encode, message

REMEDY: Final = "Use `swarm consensus estimate`, or `SwarmClient.agree`"


@message
class Question:
    """One figure, asked of whichever instance of an agent a voter chooses."""

    role: Role
    measure: str
    """``var``, ``cvar``, ``loss``..."""
    method: str
    """How the method's label begins; empty for the first figure of that measure."""
    confidence: float | None
    task: Task
    """With one book."""

    @property
    def text(self) -> str:
        """What people read, and the whole of it."""
        (book,) = self.task.books
        shown = {
            "measure": self.measure,
            "confidence": self.confidence,
            "method": self.method,
            "portfolio": book.name,
            "snapshot_id": self.task.snapshot_id,
            "agent": self.role.value,
            "question": base64.b64encode(encode(self)).decode(),
        }
        return json.dumps(shown)


def read(text: str) -> Question:
    """The question of a text.

    Raises
    ------
    InvalidRequest
        It is none, or says something else than it shows.
    """
    try:
        found = decode(base64.b64decode(json.loads(text)["question"], validate=True))
        sound = isinstance(found, Question) and len(found.task.books) == 1 and found.text == text
    except (ValueError, KeyError, TypeError, AttributeError, binascii.Error) as error:
        raise InvalidRequest("the text is no question for a figure of an agent", REMEDY) from error
    if not sound:
        raise InvalidRequest("the question shows something else than it asks", REMEDY)
    question: Question = found
    return question


def figure(question: Question, answer: AgentAnswer) -> float:
    """The figure that is asked for, from an agent's answer.

    Raises
    ------
    InvalidRequest
        The agent has not answered, or its report has no such figure, or has it at several levels and none is named.
    """
    if answer.report is None:
        raise InvalidRequest(f"{answer.agent_id} has no answer ({answer.reason})", "Ask again, or something else")
    known = answer.report.all_estimates()
    alike = [each for each in known if each.measure == question.measure]
    fit = [each for each in alike if each.method_label.startswith(question.method)]
    fit = [each for each in fit if question.confidence in {None, each.confidence}]
    if len({each.confidence for each in fit}) == 1:
        return fit[0].value
    wanted = f"{question.measure} by {question.method or 'any method'}"
    wanted += f" at {question.confidence}" if question.confidence is not None else ""
    levels = (each.method_label + (f" at {each.confidence}" if each.confidence is not None else "") for each in alike)
    has = list(dict.fromkeys(levels)) or sorted({each.measure for each in known})
    raise InvalidRequest(
        f"the report of {answer.agent_id} has {'more than one' if fit else 'no'} {wanted}", f"It has: {', '.join(has)}"
    )
