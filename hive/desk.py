"""A book that is asked about again and again: five agents in numbers, over lanes where there are any; no hub."""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import field
from typing import Any

import numpy as np

from cluster.errors import InvalidPortfolio, SwarmError
from hive.messages.calculation import Role
from hive.messages.codec import message
from hive.messages.fast import OPERATIONS, FastFacts
from hive.messages.portfolio import Book
from hive.reference import Askable, Receive

COMMON = (Role.VALUE_AT_RISK, Role.STRESS, Role.CORRELATION, Role.LIQUIDITY, Role.PORTFOLIO)


@message
class FastResult:
    """What five agents say of one book in numbers; losses are positive fractions of value, over one day.

    A part that is missing is None, and ``missing`` says why.
    """

    snapshot_id: str
    confidence: float
    elapsed_ns: int
    var: float | None = None
    """Historical, of constant weights."""
    cvar: float | None = None
    components: dict[str, float] | None = None
    """Of CVaR, by symbol; they sum to it."""
    scenarios: dict[str, float] | None = None
    """Losses of the named windows and the market moves."""
    worst_scenario: str | None = None
    mean_correlation: float | None = None
    volatility: float | None = None
    """Daily, exponentially weighted."""
    diversification: float | None = None
    """Diversification ratio; NaN for a book that does not move."""
    days_to_liquidate: float | None = None
    """0 where no volume is known."""
    liquidity_cost: float | None = None
    """Money."""
    risk_parity: dict[str, float] | None = None
    """Weights that carry equal risk over all symbols of the snapshot, summing to 1."""
    missing: dict[Role, str] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether every agent answered."""
        return not self.missing


class FastDesk:
    """Five agents asked about one book at a time, over lanes where there are any; one thread at a time.

    Lanes are opened when first needed. When the market moves on to another snapshot, answers to the old one are
    missing: call :meth:`refresh`.

    Raises
    ------
    InvalidPortfolio
        The book holds what numbers alone do not say: foreign currencies or convexity.
    """

    def __init__(self, references: Mapping[Role, Askable], book: Book, confidence: float, patience_s: float) -> None:
        self._references = dict(references)
        self.patience_s = patience_s
        self._facts: dict[Role, FastFacts] = {}
        self.take(book, confidence)

    @property
    def snapshot_id(self) -> str:
        """Snapshot that the next answers are about."""
        return self._facts[Role.VALUE_AT_RISK].snapshot_id

    @property
    def symbols(self) -> tuple[str, ...]:
        """Of the snapshot, in the order of every vector."""
        return self._facts[Role.VALUE_AT_RISK].symbols

    def refresh(self) -> None:
        """Take up the agents' current snapshot."""
        self._learn()
        self.take(self._book, self.confidence)

    def _learn(self) -> None:
        self._facts = {role: reference.facts(fresh=True) for role, reference in self._references.items()}

    def take(self, book: Book, confidence: float, snapshot_id: str = "") -> None:
        """Ask about this book from now on, on ``snapshot_id`` where the agents have it already."""
        if any(book.exchange) or book.gammas.any():
            raise InvalidPortfolio(
                "fast answers are linear and of one currency", "Use `calculate` for gamma and foreign positions"
            )
        if not self._facts or snapshot_id not in ("", self.snapshot_id):
            self._learn()
        columns = {symbol: place for place, symbol in enumerate(self.symbols)}
        stranger = next((symbol for symbol in book.symbols if symbol not in columns), None)
        if stranger is not None:
            raise InvalidPortfolio(f"the agents' snapshot has no {stranger}", "Ask again: they may still be preparing")
        self._book, self.confidence = book, confidence
        places = [columns[symbol] for symbol in book.symbols]
        n, value = len(self.symbols), book.value or 1.0
        weights = np.zeros(n)
        weights[places] = book.weights
        market = np.full((4, n), np.nan)
        market[0] = weights * value
        for row, known in enumerate((book.unit_exposures * book.volumes, book.spreads, book.depths), 1):
            market[row, places] = known
        self._questions: dict[Role, tuple[int, np.ndarray]] = {
            role: (OPERATIONS[role][operation], numbers)
            for role, operation, numbers in (
                (Role.VALUE_AT_RISK, "historical_components", np.concatenate([[confidence], weights])),
                (Role.STRESS, "scenarios", weights),
                (Role.CORRELATION, "book", weights),
                (Role.LIQUIDITY, "book", np.concatenate([[value], market.ravel()])),
                (Role.PORTFOLIO, "risk_budgets", np.full(n, 1.0 / n)),
            )
        }

    def calculate(self) -> FastResult:
        """Ask all five at once and gather what comes in time."""
        answers, missing, elapsed_ns = self.answers()
        parts: dict[str, Any] = {}
        for role, answer in answers.items():
            parts |= getattr(self, f"_{role.value}")(answer)
        return FastResult(self.snapshot_id, self.confidence, elapsed_ns, missing=missing, **parts)

    def answers(self) -> tuple[dict[Role, np.ndarray], dict[Role, str], int]:
        """(numbers by agent, why others have none, nanoseconds taken): :meth:`calculate` without the words.

        Who cannot be asked at once, since nobody serves or a lane must be opened first, is asked by a thread of its
        own meanwhile: it takes nothing from the patience with the others.
        """
        started = time.perf_counter_ns()
        give_up = time.monotonic() + self.patience_s
        waiting: list[tuple[Role, Receive]] = []
        later: list[Role] = []
        for role, reference in self._references.items():
            if not reference.ready:
                later.append(role)
                continue
            operation, question = self._questions[role]
            left, tag = max(0.0, give_up - time.monotonic()), self._facts[role].tag
            try:
                waiting.append((role, reference.send(operation, question, patience_s=left, snapshot=tag)))
            except SwarmError:  # it was there just now
                later.append(role)
        if not later:
            return *self._gathered(waiting, give_up), time.perf_counter_ns() - started
        with ThreadPoolExecutor(len(later)) as threads:  # ends when the last of them has, by their patience
            asked = [(role, _waited_for(threads.submit(self._ask, role, give_up))) for role in later]
            answers, missing = self._gathered(waiting, give_up)
            late, none = self._gathered(asked, give_up)
        return answers | late, missing | none, time.perf_counter_ns() - started

    def _ask(self, role: Role, give_up: float) -> np.ndarray:
        operation, question = self._questions[role]
        left = max(0.0, give_up - time.monotonic())
        return self._references[role].ask(operation, question, patience_s=left, snapshot=self._facts[role].tag)

    @staticmethod
    def _gathered(
        waiting: Iterable[tuple[Role, Receive]], give_up: float
    ) -> tuple[dict[Role, np.ndarray], dict[Role, str]]:
        answers: dict[Role, np.ndarray] = {}
        missing: dict[Role, str] = {}
        for role, receive in waiting:
            try:
                answers[role] = receive(max(0.0, give_up - time.monotonic()))
            except SwarmError as error:
                missing[role] = str(error)
        return answers, missing

    def close(self) -> None:
        """Hang up all lanes."""
        for reference in self._references.values():
            reference.close()

    def __enter__(self) -> FastDesk:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _value_at_risk(self, answer: np.ndarray) -> dict[str, Any]:
        components = self._by_symbol(answer[2 + len(self.symbols) :])
        return {"var": float(answer[0]), "cvar": float(answer[1]), "components": components}

    def _stress(self, answer: np.ndarray) -> dict[str, Any]:
        names = self._facts[Role.STRESS].facts["scenarios"]
        scenarios = dict(zip(names, answer[1:].tolist(), strict=True))
        return {"scenarios": scenarios, "worst_scenario": names[int(answer[0])]}

    def _correlation(self, answer: np.ndarray) -> dict[str, Any]:
        mean, _, _, volatility, diversification = answer.tolist()
        return {"mean_correlation": mean, "volatility": volatility, "diversification": diversification}

    def _liquidity(self, answer: np.ndarray) -> dict[str, Any]:
        return {"days_to_liquidate": float(answer[0]), "liquidity_cost": float(answer[1])}

    def _portfolio(self, answer: np.ndarray) -> dict[str, Any]:
        return {"risk_parity": self._by_symbol(answer)}

    def _by_symbol(self, numbers: np.ndarray) -> dict[str, float]:
        return dict(zip(self.symbols, numbers.tolist(), strict=True))


def _waited_for(question: Future[np.ndarray]) -> Receive:
    """Its answer, for which it waits itself."""
    return lambda _patience_s: question.result()
