"""Why the committee would not decide something. Each says which rule, and what to do; nothing was decided."""

from __future__ import annotations

from cluster.errors import DeadlineExceeded, InvalidInput, SwarmUnavailable


class Refused(InvalidInput):
    """The committee does not decide this as it stands."""


class UnknownKind(Refused):
    """No rule is known for what was moved."""


class TooLarge(Refused):
    """The payload, the reason or the evidence is larger than a request may be."""


class DeadlinePast(Refused):
    """The motion's deadline has passed."""


class StaleEpoch(Refused):
    """The committee has changed since the ballots were signed."""


class BadBallot(Refused):
    """A ballot is of no member, of another motion, there twice, or its signature is not its voter's."""


class NotCarried(Refused):
    """Too few members approve, and too few reject, for either to be decided."""


class BadEvidence(Refused):
    """A proof of misconduct proves nothing, or what it asks for is done."""


class BadCertificate(InvalidInput):
    """What is shown as a decision is none: a signature, a link or a quorum is missing."""


class Undecided(DeadlineExceeded):
    """No decision was seen by the deadline. It may still come: ask for the motion by its id."""


class NoQuorum(SwarmUnavailable):
    """Fewer replicas answer than a decision needs."""
