"""A voter's own number: it asks an agent whose report has the figure, and where there are several, not the same as all.

Voters that ask one and the same agent agree on whatever that agent says: how many sources an agreed number has is how
many instances of the agent live (requirements B9: three or more for a disputed number). Where fewer live than voters
vote, a wrong one speaks through several: of three that four voters ask, it can be the median of three answers.
"""

from __future__ import annotations

import re
import time

from cluster import runtime
from cluster.errors import DeadlineExceeded, SwarmUnavailable
from hive.messages import question as questions
from hive.messages.calculation import AgentAnswer


def estimate(text: str, until_utc_ns: int, *, voter: int, namespace: str) -> float:
    """The figure that a question asks for, from the instance that this voter asks.

    Parameters
    ----------
    voter : int
        Number of the voter in the present epoch: instances take turns by it, so that each is asked once where as many
        live as vote. Numbers of seats have gaps where voters were replaced.

    Raises
    ------
    InvalidRequest
        The text is no question, or the agent's report has no such figure.
    SwarmUnavailable, DeadlineExceeded
        No such agent lives, or it did not answer in time.
    """
    question = questions.read(text)
    own = re.compile(rf"{re.escape(question.role.value)}(-[0-9]+)?")
    living = [name for name in runtime.named_actors(namespace) if own.fullmatch(name)]
    if not living:
        raise SwarmUnavailable(f"no {question.role.value} lives", "Run `swarm health`")
    agent = runtime.find_actor(living[voter % len(living)], namespace)
    left_s = (until_utc_ns - time.time_ns()) / 1e9
    if left_s <= 0:
        raise DeadlineExceeded("the question's deadline has passed", "Give it more time")
    answers: tuple[AgentAnswer, ...] = runtime.wait_for(agent.calculate.remote(question.task), left_s)
    return questions.figure(question, answers[0])
