"""Clients who wait for what becomes of their requests."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Final

from cluster.errors import SwarmError

HISTOGRAM_BUCKETS: Final = 24
"""Of decision times; bucket k counts those below 2^k microseconds."""


@dataclass(frozen=True)
class Answer:
    """What a replica says of one request: its decision with what proves it, a refusal, or neither in time."""

    evidence: bytes = b""
    refusal: SwarmError | None = None


class Question:
    """Of a client: some requests, and what became of them.

    Parameters
    ----------
    begun_ns, give_up_ns : int
        When it came, and until when its asker waits, by the monotonic clock.
    """

    def __init__(self, bodies: Sequence[bytes], begun_ns: int, give_up_ns: int) -> None:
        self.bodies, self.begun_ns, self.give_up_ns = list(bodies), begun_ns, give_up_ns
        self.future: Future[list[Answer]] = Future()
        self.said: list[Answer | None] = [None] * len(self.bodies)
        """What is known of each request."""

    @property
    def answers(self) -> list[Answer]:
        """One for each request; empty where there is none yet."""
        return [answer or Answer() for answer in self.said]

    def answer(self, place: int, answer: Answer) -> None:
        """Say what became of one request; with the last of them the asker waits no more."""
        self.said[place] = answer
        if None not in self.said and self.future.set_running_or_notify_cancel():
            self.future.set_result(self.answers)


class Waiting:
    """All questions that are not answered in full."""

    def __init__(self) -> None:
        self.places: dict[bytes, list[tuple[Question, int]]] = {}
        """By what is waited for: questions, and the places in them."""
        self.count = 0
        """Requests that somebody waits for."""
        self.histogram = [0] * HISTOGRAM_BUCKETS

    def add(self, identity: bytes, question: Question, place: int) -> None:
        """Wait for a decision about something."""
        self.places.setdefault(identity, []).append((question, place))
        self.count += 1

    def decided(self, identity: bytes, now_ns: int, answer: Callable[[], Answer]) -> None:
        """Tell all who wait for a decision that it is there."""
        for question, place in self.places.pop(identity, ()):
            self.count -= 1
            bucket = min(HISTOGRAM_BUCKETS - 1, ((now_ns - question.begun_ns) // 1000).bit_length())
            self.histogram[bucket] += 1
            question.answer(place, answer())

    def refuse_all(self, refusal: SwarmError) -> None:
        """Say of whatever is waited for that it is refused."""
        for question, place in self._emptied():
            question.answer(place, Answer(refusal=refusal))

    def abandon(self, reason: SwarmError) -> None:
        """Let nobody wait any more: nothing will be known here of what is asked."""
        for question, _ in self._emptied():
            if not question.future.done():
                question.future.set_exception(reason)

    def forget(self, now_ns: int) -> None:
        """Keep no question that nobody waits for any more."""
        kept = {
            identity: [(question, place) for question, place in waiting if question.give_up_ns > now_ns]
            for identity, waiting in self.places.items()
        }
        self.places = {identity: waiting for identity, waiting in kept.items() if waiting}
        self.count = sum(map(len, self.places.values()))

    def _emptied(self) -> list[tuple[Question, int]]:
        waiting = [pair for pairs in self.places.values() for pair in pairs]
        self.places, self.count = {}, 0
        return waiting
