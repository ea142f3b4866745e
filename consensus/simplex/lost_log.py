"""A voter without its log does not know what it voted, and is silent until that can no longer matter.

It asks the others how far they are, with a number that it has never used, which they sign: nobody can answer with what
they said before the loss. Once a quorum of others has told its view, silence can end two views after the last of these.
Its own last vote was in some view v. The certificate that brought it there was signed by f others who are honest, and
these are at v - 1 or later; any 2f+1 others include one of them. So v is at most one more than the largest view of
2f+1 others.
"""

from __future__ import annotations

from consensus.simplex.crypto import Checker
from consensus.simplex.types import Committee, Standing


class LostLog:
    """What a voter without its log was told since, and which views it may vote in.

    Parameters
    ----------
    nonce : int
        That no life of this voter has used before; 0 where nothing is lost.
    recovered : (int, int), optional
        What :attr:`recovered` was in a former life.
    """

    def __init__(self, nonce: int, recovered: tuple[int, int] | None) -> None:
        self.nonce = nonce
        """0 once the new log says all that this voter ever voted in this epoch and later."""
        self.recovered = recovered if nonce else None
        """The epoch, and the first view of it, in which it votes again, where that is known."""
        self.first_view: int | None = None
        """In this epoch; None while that is not known."""
        self.answers: dict[int, int] = {}
        """Views of those who have told, by voter."""

    def begin_epoch(self, epoch: int, ended_in: int) -> None:
        """Hear that an epoch begins, and in which view the one before it ended.

        The life that was lost may have been an epoch ahead of those who told of theirs, unless this one has seen the
        epoch end in a view that all agreed was still to come.
        """
        self.answers = {}
        self.first_view = None
        if self.recovered is None:
            return
        told_in, view = self.recovered
        if told_in == epoch:
            self.first_view = view
        elif told_in == epoch - 1 and ended_in >= view:
            self.nonce, self.recovered = 0, None

    @property
    def asks(self) -> bool:
        """Whether others have yet to tell how far they are."""
        return self.nonce != 0 and self.first_view is None

    def may_vote(self, view: int) -> bool:
        """Whether nothing that was lost can be a vote in this view or a later one."""
        return self.nonce == 0 or (self.first_view is not None and view >= self.first_view)

    def hear(self, standing: Standing, voter: int | None, committee: Committee, checker: Checker) -> None:
        """Let another voter tell how far it is; its view counts if a certificate shows it."""
        known = standing.certificate
        last = (committee.epoch, standing.view - 1)
        shown = standing.view == 1 or (known is not None and (known.epoch, known.view) == last)
        if standing.voter == voter or not committee.counts(standing.voter) or not shown:
            return
        if standing.voter in self.answers or not checker.standing(standing):
            return
        if known is not None and not checker.certificate(known):
            return
        self.answers[standing.voter] = standing.view
        if len(self.answers) >= committee.quorum:
            self.first_view = max(self.answers.values()) + 2
            self.recovered = committee.epoch, self.first_view
