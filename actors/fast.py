"""A compiled service and its resident state: what an agent answers over a lane, in its own process, or through Ray."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cluster.lanes.lane import complain
from cluster.lanes.layout import OK


@dataclass
class FastService:
    """One room's kernels on one snapshot. Its state is changed by answering: one thread at a time.

    Parameters
    ----------
    answer : compiled function
        (operation, question, reply, *state) -> (code, numbers in the reply).
    serve : compiled function
        (words, numbers, active, own, hand, *state) -> why it came back.
    state : tuple of ndarray
        What both are given.
    facts : dict
        What a caller must know to ask and to read: confidences, names of scenarios.
    """

    answer: Callable[..., tuple[int, int]]
    serve: Callable[..., int]
    state: tuple[np.ndarray, ...]
    facts: dict[str, Any]
    largest: int
    """Numbers of the largest question or reply."""

    def loop(
        self, words: np.ndarray, numbers: np.ndarray, active: np.ndarray, own: np.ndarray, hand: np.ndarray
    ) -> int:
        """The loop that :meth:`cluster.lanes.port.Port.serve` runs."""
        return self.serve(words, numbers, active, own, hand, *self.state)

    def ask(self, operation: int, question: np.ndarray) -> np.ndarray:
        """Answer here and now, as a lane would.

        Raises
        ------
        InvalidRequest
            Too few, too many or not finite numbers, or no such operation.
        """
        reply = np.empty(self.largest)
        code, count = self.answer(operation, np.require(question, np.float64, ["C", "W"]), reply, *self.state)
        if code != OK:
            complain(code)
        return reply[:count]
