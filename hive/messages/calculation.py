"""A calculation from question to answer: request, task for one agent, its answer, and the gathered result."""

from __future__ import annotations

import math
import secrets
from difflib import get_close_matches
from enum import StrEnum
from typing import TYPE_CHECKING, Any

from cluster.errors import InvalidRequest
from hive.messages.alert import Alert
from hive.messages.codec import message, plain
from hive.messages.dates import iso_date
from hive.messages.estimate import Estimate
from hive.messages.portfolio import Book, Portfolio
from hive.messages.reports import Report

if TYPE_CHECKING:
    import pandas as pd

MAX_HORIZON_DAYS = 250
MAX_SEED = 2**64 - 1
DEFAULT_CONFIDENCES = (0.95, 0.99)


class Role(StrEnum):
    """What an agent is for. Its first instance carries the role's name in Ray."""

    HUB = "hub"
    MARKET_DATA = "market_data"
    VALUE_AT_RISK = "value_at_risk"
    STRESS = "stress"
    CORRELATION = "correlation"
    LIQUIDITY = "liquidity"
    PORTFOLIO = "portfolio"
    GATE = "gate"
    CONSENSUS = "consensus"


class CalculationType(StrEnum):
    """What can be asked of the swarm (requirements B6)."""

    VAR_CVAR = "var"
    STRESS_TEST = "stress"
    CORRELATION = "correlation"
    LIQUIDITY = "liquidity"
    PORTFOLIO_OPTIMISATION = "portfolio"
    COMPREHENSIVE = "comprehensive"

    @classmethod
    def parse(cls, text: str | CalculationType) -> CalculationType:
        """The type named by value (``var``) or by member name (``VAR_CVAR``), in any case."""
        for kind in cls:
            if str(text).lower() in (kind.value, kind.name.lower()):
                return kind
        raise InvalidRequest(f"calculation type {text!r} is unknown", f"Known are: {', '.join(cls)}")

    @property
    def roles(self) -> tuple[Role, ...]:
        """Agents that take part, in the order of the report."""
        return PARTICIPANTS[self]


PARTICIPANTS: dict[CalculationType, tuple[Role, ...]] = {
    CalculationType.VAR_CVAR: (Role.VALUE_AT_RISK,),
    CalculationType.STRESS_TEST: (Role.STRESS,),
    CalculationType.CORRELATION: (Role.CORRELATION,),
    CalculationType.LIQUIDITY: (Role.LIQUIDITY,),
    CalculationType.PORTFOLIO_OPTIMISATION: (Role.PORTFOLIO,),
    CalculationType.COMPREHENSIVE: (
        Role.VALUE_AT_RISK,
        Role.STRESS,
        Role.CORRELATION,
        Role.LIQUIDITY,
        Role.PORTFOLIO,
    ),
}


METHODS: dict[Role, tuple[str, ...]] = {
    Role.VALUE_AT_RISK: (
        *("historical", "age_weighted", "filtered_historical"),
        *("gaussian", "cornish_fisher", "student_t", "gpd"),
        *("mc_plain", "mc_antithetic", "mc_control_variate", "mc_stratified", "mc_importance", "qmc_sobol"),
        "mlae_sim",
    ),
    Role.STRESS: (
        *("historical_window", "hypothetical", "factor", "mc_gaussian", "mc_student_t", "mc_jump_diffusion"),
        *("conditional", "reverse", "sensitivity", "tail_bound"),
    ),
    Role.CORRELATION: (
        *("sample", "ledoit_wolf", "ewma", "rmt_denoised", "dcc", "copula", "window_change", "cusum"),
        "bayesian_change_point",
    ),
    Role.LIQUIDITY: ("impact", "schedule", "conditions", "funding"),
    Role.PORTFOLIO: (
        *("risk_parity", "minimum_variance", "mean_variance", "minimum_cvar", "maximum_diversification", "hrp"),
        *("black_litterman", "pareto_front", "rebalance", "sizing", "annealing", "sqa_sim", "vqe_sim"),
    ),
}
"""What each agent can be asked for by name (`Parameters.methods`); its settings say what it does unasked."""
ALL_METHODS = "all"


def methods_for(role: Role, asked: tuple[str, ...], unasked: tuple[str, ...]) -> tuple[str, ...]:
    """Methods an agent applies, in the order of :data:`METHODS`: those asked of it, else ``unasked``."""
    mine = METHODS[role]
    if ALL_METHODS in asked:
        return mine
    chosen = set(asked) & set(mine) or set(unasked)
    return tuple(method for method in mine if method in chosen)


class AnswerStatus(StrEnum):
    """How one agent's part of a calculation ended."""

    OK = "ok"
    LATE = "late"
    FAILED = "failed"


@message
class Shock:
    """A hypothetical move: returns by symbol, ``"*"`` for every symbol not named. -0.2 is a fall of 20 %."""

    name: str
    moves: dict[str, float]

    def __post_init__(self) -> None:
        if not isinstance(self.moves, dict) or not self.moves:
            stated = repr(self.moves) if self.moves else "nothing"
            raise InvalidRequest(f"shock {self.name!r} moves {stated}", 'Give moves such as {"*": -0.2}')
        for symbol, move in self.moves.items():
            if not _is_number(move) or not math.isfinite(move) or move < -1:
                raise InvalidRequest(
                    f"shock {self.name!r} moves {symbol} by {move!r}", "Give a finite return of at least -1"
                )


@message
class Parameters:
    """How to calculate. Everything that can change a number is here, in the snapshot, or in the book.

    Raises
    ------
    InvalidRequest
        A confidence outside (0.5, 1), a horizon outside 1..250 days, a negative seed, or an unknown method.
    """

    confidences: tuple[float, ...] = DEFAULT_CONFIDENCES
    horizon_days: int = 1
    seed: int = 0
    shocks: tuple[Shock, ...] = ()
    """Hypothetical shocks beside the library's own."""
    windows: tuple[tuple[str, str], ...] = ()
    """Extra historical windows as ISO dates; the first date is the last close before the window."""
    given: tuple[Shock, ...] = ()
    """Conditional stress: these symbols make these moves, the others follow as their dependence says."""
    target_loss: float | None = None
    """Loss that the reverse stress test looks for, a fraction of value; None as the settings say."""
    methods: tuple[str, ...] = ()
    """Methods of :data:`METHODS` to apply, or ``all``; an agent that none of them belongs to applies its default."""

    def __post_init__(self) -> None:
        if not isinstance(self.confidences, (tuple, list)):
            raise InvalidRequest(f"confidences {self.confidences!r} is no list", "Give a list such as [0.95]")
        object.__setattr__(self, "confidences", tuple(self.confidences))
        self._freeze_lists()
        known = {ALL_METHODS, *(method for methods in METHODS.values() for method in methods)}
        unknown = [method for method in self.methods if method not in known]
        if unknown:
            close = get_close_matches(str(unknown[0]), sorted(known), n=3) or sorted(known)
            raise InvalidRequest(f"method {unknown[0]!r} is unknown", f"Give one such as {', '.join(close)}")
        if self.target_loss is not None and not (_is_number(self.target_loss) and 0 < self.target_loss < math.inf):
            raise InvalidRequest(f"target loss {self.target_loss!r} is no loss", "Give a positive fraction of value")
        if any("*" in shock.moves for shock in self.given):
            raise InvalidRequest('a condition moves "*"', "Name the symbols that move; the others follow")
        if not self.confidences:
            raise InvalidRequest("no confidence level is given", "Give at least one, such as 0.95")
        for confidence in self.confidences:
            if not isinstance(confidence, float) or not 0.5 < confidence < 1:
                remedy = (
                    f"That is a tail probability; its confidence is {1 - confidence:g}"
                    if isinstance(confidence, float) and 0 < confidence <= 0.5
                    else "Give a number between 0.5 and 1, such as 0.95"
                )
                raise InvalidRequest(f"confidence {confidence!r} is out of range", remedy)
        if isinstance(self.horizon_days, bool) or not isinstance(self.horizon_days, int):
            raise InvalidRequest(f"horizon {self.horizon_days!r} is no whole number", "Give trading days, such as 1")
        if not 1 <= self.horizon_days <= MAX_HORIZON_DAYS:
            raise InvalidRequest(
                f"horizon of {self.horizon_days} days is out of range", f"Give 1 to {MAX_HORIZON_DAYS} trading days"
            )
        for window in self.windows:
            _check_window(window)
        if isinstance(self.seed, bool) or not isinstance(self.seed, int) or not 0 <= self.seed <= MAX_SEED:
            raise InvalidRequest(f"seed {self.seed!r} is no whole number from 0 to 2**64 - 1", "Give one such as 42")

    def _freeze_lists(self) -> None:
        for name, kind, example in (
            *(("shocks", Shock, "Shock objects"), ("given", Shock, "Shock objects")),
            *(("windows", (tuple, list), "pairs of ISO dates"), ("methods", str, "names")),
        ):
            value = getattr(self, name)
            if not isinstance(value, (tuple, list)) or not all(isinstance(one, kind) for one in value):
                raise InvalidRequest(f"{name} are {value!r}", f"Give a list of {example}")
            object.__setattr__(self, name, tuple(tuple(one) if name == "windows" else one for one in value))


@message
class CalculationRequest:
    """A coordinated calculation for one or more portfolios on one market snapshot.

    Raises
    ------
    InvalidRequest
        No portfolio, both a snapshot id and a date, or a method that belongs to none of the agents asked.
    """

    portfolios: tuple[Portfolio, ...]
    calculation: CalculationType
    parameters: Parameters
    deadline_utc_ns: int
    """Wall-clock time after which no answer is wanted."""
    snapshot_id: str | None = None
    """Snapshot to calculate on, by id or by a unique beginning of it; the current one where neither is given."""
    as_of: str | None = None
    """ISO date: the current snapshot, cut after that date."""
    request_id: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "portfolios", tuple(self.portfolios))
        if not self.portfolios:
            raise InvalidRequest("the request holds no portfolio", "Give at least one")
        if self.snapshot_id is not None and self.as_of is not None:
            raise InvalidRequest("both a snapshot id and a date are given", "Give one of the two")
        mine = {ALL_METHODS, *(method for role in self.calculation.roles for method in METHODS[role])}
        stranger = next((method for method in self.parameters.methods if method not in mine), None)
        if stranger is not None:
            raise InvalidRequest(
                f"no agent of a {self.calculation} calculation knows the method {stranger!r}",
                f"Its methods are: {', '.join(sorted(mine))}",
            )
        if not self.request_id:
            object.__setattr__(self, "request_id", secrets.token_hex(8))


@message
class Task:
    """What one agent is asked: the same books on the same snapshot as every other agent of the calculation."""

    request_id: str
    snapshot_id: str
    books: tuple[Book, ...]
    parameters: Parameters
    deadline_utc_ns: int


@message
class AgentAnswer:
    """One agent's part of a result: a report, or the reason why there is none."""

    role: Role
    agent_id: str
    status: AnswerStatus
    report: Report | None = None
    reason: str = ""
    elapsed_ns: int = 0
    """Time inside the agent, from the start of its work on this book to its end."""
    snapshot_id: str = ""
    input_hash: str = ""
    """SHA-256 over book, parameters and snapshot id: equal hashes, equal numbers."""
    seed: int = 0
    warnings: tuple[str, ...] = ()
    fallbacks: tuple[str, ...] = ()
    """Methods that were tried and failed before the one that answered."""
    attempts: int = 1

    @property
    def method_labels(self) -> tuple[str, ...]:
        """How the numbers were made, each label once."""
        if self.report is None:
            return ()
        return tuple(dict.fromkeys(estimate.method_label for estimate in self.report.all_estimates()))


@message
class CalculationResult:
    """What the hub gathered for one portfolio: every agent's answer, and the figures that need several of them."""

    request_id: str
    calculation: CalculationType
    portfolio: str
    currency: str
    value: float | None
    snapshot_id: str
    as_of: str
    """Date of the last market observation used, ISO."""
    answers: dict[str, AgentAnswer]
    """By role; an agent that is late or failed is here too."""
    merged: tuple[Estimate, ...]
    completeness: float
    """Share of the agents asked that answered, 0 to 1."""
    elapsed_ns: int
    """From the hub's acceptance of the request to the merge."""
    parameters: Parameters
    alerts: tuple[Alert, ...] = ()
    """What somebody must look at: breached limits, stressed liquidity, a changed regime."""

    @property
    def complete(self) -> bool:
        """Whether every agent asked has answered."""
        return self.completeness == 1.0

    def report(self, role: Role | str) -> Any:
        """The report of one agent.

        Raises
        ------
        InvalidRequest
            That agent took no part, or has no report; the message says why.
        """
        answer = self.answers.get(str(role))
        if answer is None:
            raise InvalidRequest(f"{role} took no part in a {self.calculation} calculation", "Ask for COMPREHENSIVE")
        if answer.report is None:
            raise InvalidRequest(f"{role} has no report: {answer.status} ({answer.reason})", "Calculate again")
        return answer.report

    def estimate(self, measure: str, confidence: float | None = None, method_label: str | None = None) -> Estimate:
        """The first estimate of ``measure``, agents in the order of the report.

        Raises
        ------
        InvalidRequest
            The result holds no such estimate.
        """
        for _, found in self.estimates():
            if (
                found.measure == measure
                and confidence in (None, found.confidence)
                and method_label in (None, found.method_label)
            ):
                return found
        raise InvalidRequest(f"the result holds no {measure} at {confidence}", "Look at `to_frame()` for what it holds")

    def estimates(self) -> list[tuple[str, Estimate]]:
        """Every estimate with the name of who made it."""
        rows = [
            (role, estimate)
            for role, answer in self.answers.items()
            if answer.report is not None
            for estimate in answer.report.all_estimates()
        ]
        return rows + [("hub", estimate) for estimate in self.merged]

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready dictionary of the whole result."""
        return {**plain(self), "complete": self.complete}

    def to_frame(self) -> pd.DataFrame:
        """Every estimate as a table, one row each."""
        import pandas as pd

        return pd.DataFrame([{"agent": role, **plain(estimate)} for role, estimate in self.estimates()])


def _check_window(window: tuple[str, ...]) -> None:
    if len(window) != 2:
        raise InvalidRequest(f"the window {window!r} is no pair of dates", "Give its first and its last date")
    try:
        first, last = map(iso_date, window)
    except ValueError as error:
        raise InvalidRequest(
            f"the window {window!r} is no pair of dates ({error})", "Give both as YYYY-MM-DD"
        ) from error
    if first >= last:
        raise InvalidRequest(f"the window {window[0]} to {window[1]} runs backwards", "Give the earlier date first")


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)
