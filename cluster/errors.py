"""The errors a caller can meet. Each says what was wrong, which input, and what to do about it.

All of them pickle by their positional arguments, so they cross process borders unchanged.
"""

from __future__ import annotations

from typing import Any


class SwarmError(Exception):
    """Root of every error Riskswarm raises on purpose.

    Parameters
    ----------
    problem : str
        What is wrong, naming the input.
    remedy : str
        What the caller can do about it.
    """

    exit_code = 1

    def __init__(self, problem: str, remedy: str = "") -> None:
        super().__init__(problem, remedy)
        self.problem = problem
        self.remedy = remedy

    def __str__(self) -> str:
        return f"{self.problem}. {self.remedy}" if self.remedy else self.problem


class InvalidInput(SwarmError):
    """Something the caller gave was refused before anything was computed."""

    exit_code = 2


class InvalidPortfolio(InvalidInput):
    """The portfolio cannot be priced or read as given."""


class InvalidMarketData(InvalidInput):
    """Prices or returns did not pass validation."""


class InvalidRequest(InvalidInput):
    """A calculation parameter is out of range or contradicts another."""


class InvalidSettings(InvalidInput):
    """A settings key is unknown or its value is out of range."""


class UnknownSnapshot(InvalidInput):
    """No market snapshot answers to the id or date that was asked for."""


class SwarmUnavailable(SwarmError):
    """No swarm answers: not started, unreachable, or its hub is gone."""

    exit_code = 3


class LaneLost(SwarmUnavailable):
    """The process at the other end of a lane is gone, or what lies in the lane cannot be believed."""


class LanesUnavailable(SwarmUnavailable):
    """No shared memory could be had; agents are still reached through Ray."""


class SessionConflict(SwarmError):
    """A swarm is already recorded here, a record is stale, or a port is taken."""

    exit_code = 4


class Overloaded(SwarmError):
    """A bounded queue is full; nothing was accepted."""

    exit_code = 5


class DeadlineExceeded(SwarmError):
    """The answer did not arrive before the deadline."""

    exit_code = 6


class BootFailed(SwarmError):
    """The roster did not become healthy in time; what was started has been taken down again."""

    exit_code = 7


class CalculationIncomplete(SwarmError):
    """A part of the answer that may not be missing is missing.

    Parameters
    ----------
    results : tuple of CalculationResult
        What did arrive, one per portfolio of the request, with the status of every agent.
    """

    exit_code = 8

    def __init__(self, problem: str, remedy: str = "", results: tuple[Any, ...] = ()) -> None:
        super().__init__(problem, remedy)
        self.args = (problem, remedy, results)
        self.results = results
